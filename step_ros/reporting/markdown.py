"""Markdown tables: the same rows give the same text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MISSING = '–'


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table, ready to be written.

    Attributes:
        head: Titles of the columns.
        rows: Cells, as Markdown; the first of each row is its title.
        notes: What to know when reading it.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def plain(text: str) -> str:
    """Write a name so that Markdown shows it as it is."""
    # An underscore inside a word means nothing to Markdown.
    return re.sub(r'([\\`*\[\]<>|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))', r'\\\1', text)


def markdown_table(grid: Grid) -> list[str]:
    """Write a table; figures are aligned to the right."""
    text_columns = {
        place
        for place in range(len(grid.head))
        if place == 0 or any(re.search(r'[^\W\d_]{2}', row[place]) for row in grid.rows)
    }
    rule = ['---' if place in text_columns else '---:' for place in range(len(grid.head))]
    return [_line(cells) for cells in (grid.head, rule, *grid.rows)]


def _line(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(_cell_text(cell) for cell in cells) + ' |'


def _cell_text(cell: str) -> str:
    # A bar would begin another cell, unless it is escaped already.
    return re.sub(r'(?<!\\)\|', r'\\|', ' '.join(cell.split()))

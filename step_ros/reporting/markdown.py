# SPDX-License-Identifier: Apache-2.0
"""Markdown tables; the same rows give the same text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MISSING = '–'


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table with notes.

    Attributes:
        head: Titles of the columns.
        rows: Cells, as Markdown; the first cell of a row is its title.
        notes: Explanations for the reader.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return the head and the rows as a Markdown table, without the notes."""
        return markdown_table(self.head, self.rows)


def plain(text: str) -> str:
    """Return a text escaped so that Markdown shows it unchanged."""
    # Markdown ignores an underscore inside a word, so it needs no escape.
    return re.sub(r'([\\`*\[\]<>|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))', r'\\\1', text)


def markdown_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    figures: Literal['auto', 'all', 'none'] = 'auto',
) -> str:
    """Return a Markdown table.

    Args:
        head: Titles of the columns.
        rows: Cells, as Markdown.
        figures: Columns of figures, which are aligned to the right: `auto` for columns without
            words, `all` for all but the first, `none` for none. The first column never is one.

    Raises:
        ValueError: A row has more or fewer cells than there are columns.
    """
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f'{len(row)} cells {list(row)} for {len(head)} columns')

    def is_text(column: int) -> bool:
        if column == 0 or figures != 'auto':
            return column == 0 or figures == 'none'
        return any(re.search(r'[^\W\d_]{2}', row[column]) for row in rows)

    rule = ['---' if is_text(column) else '---:' for column in range(len(head))]
    return '\n'.join(_line(cells) for cells in (head, rule, *rows))


def figures_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and whose others are figures."""
    return markdown_table(head, rows, figures='all')


def _line(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(_cell_text(cell) for cell in cells) + ' |'


def _cell_text(cell: str) -> str:
    # An unescaped bar would start another cell.
    return re.sub(r'(?<!\\)\|', r'\\|', ' '.join(cell.split()))

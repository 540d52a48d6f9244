"""Progress bars for everything long."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar('Item')


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Go through items behind a progress bar.

    Args:
        items: What to go through.
        what: What is being done, for the reader.
        total: How many there are; None to ask `items`.
    """
    bar = Progress(
        TextColumn('{task.description:<28}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with bar:
        yield from bar.track(items, total=total, description=what)

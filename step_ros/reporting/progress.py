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


def track(
    items: Iterable[Item], what: str, total: int | None = None, *, shown: bool = True
) -> Iterator[Item]:
    """Go through items behind a progress bar.

    Args:
        items: What to go through.
        what: What is being done, for the reader.
        total: How many there are; None to ask `items`.
        shown: Whether there is a bar; of several processes only one shows theirs.
    """
    bar = Progress(
        TextColumn('{task.description:<28}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not shown,
    )
    with bar:
        yield from bar.track(items, total=total, description=what)

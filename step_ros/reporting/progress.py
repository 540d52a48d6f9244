# SPDX-License-Identifier: Apache-2.0
"""Progress bars for long work."""

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
    items: Iterable[Item], description: str, total: int | None = None, *, shown: bool = True
) -> Iterator[Item]:
    """Yield items while a progress bar is shown.

    Args:
        items: The items.
        description: Name of the work, shown beside the bar.
        total: Number of items; None to take the length of `items`.
        shown: Whether to show the bar; of several processes only one should.
    """
    bar = Progress(
        # A name in the description may hold brackets, which rich would take for markup.
        TextColumn('{task.description:<28}', markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not shown,
    )
    with bar:
        yield from bar.track(items, total=total, description=description)

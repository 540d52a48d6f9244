# SPDX-License-Identifier: Apache-2.0
"""One rule for the stamps of a bag's images: which frames count, and in what order.

Check, training, teaching and evaluation read a bag by this rule, as the stream reads a camera:

- a frame without a stamp (0) is left out, and so is a frame whose stamp came before;
- a frame that lags behind the newest by at most `order_tolerance` takes its place by its stamp;
- a frame that lags further behind makes the bag unusable, because time jumped back.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from step_ros.io.bags.metadata import BagError
from step_ros.resources import load_defaults
from step_ros.streaming.grid import NANOSECONDS

# Words for the counts; their keys are those of a camera in the stream.
OUTCOMES = {
    'zero_stamp': 'left out without a stamp',
    'duplicate': 'left out with the stamp of an earlier image',
    'reordered': 'sorted by stamp',
}

_logger = logging.getLogger(__name__)


@cache
def order_tolerance_ns() -> int:
    """Return the node's default `order_tolerance` in nanoseconds."""
    return round(float(str(load_defaults('perception.yaml')['order_tolerance'])) * NANOSECONDS)


def order_by_stamp(
    path: Path, topic: str, stamps_ns: Sequence[int]
) -> tuple[np.ndarray, Counter[str]]:
    """Return which frames of a camera count, ordered by stamp.

    Args:
        path: The bag, for error messages.
        topic: The image topic, for error messages.
        stamps_ns: Header stamps in nanoseconds, in the order of recording.

    Returns:
        Numbers of the frames, and how many frames had another outcome, by the keys of `OUTCOMES`.

    Raises:
        BagError: No frame has a stamp, or stamps go back by more than `order_tolerance`.
    """
    counts: Counter[str] = Counter()
    numbers: dict[int, int] = {}
    newest_ns = 0
    back: list[tuple[int, int, int]] = []
    for number, stamp_ns in enumerate(stamps_ns):
        if stamp_ns <= 0:
            counts['zero_stamp'] += 1
        elif newest_ns - stamp_ns > order_tolerance_ns():
            back.append((number, stamp_ns, newest_ns))
        elif stamp_ns in numbers:
            counts['duplicate'] += 1
        else:
            counts['reordered'] += stamp_ns < newest_ns
            numbers[stamp_ns] = number
            newest_ns = max(newest_ns, stamp_ns)
    if back:
        number, stamp_ns, newest_ns = back[0]
        raise BagError(
            path,
            f'{topic}: frame {number} of {len(stamps_ns)} is stamped '
            f'{stamp_ns / NANOSECONDS:.6f} s, a frame before it {newest_ns / NANOSECONDS:.6f} s '
            f'({len(back)} such frames); header stamps may go back by at most '
            f'{order_tolerance_ns() / NANOSECONDS:g} s (order_tolerance)',
        )
    if not numbers:
        raise BagError(
            path,
            f'{topic}: none of {len(stamps_ns)} images has a stamp; have the camera driver set '
            'header.stamp',
        )
    return np.asarray([numbers[stamp_ns] for stamp_ns in sorted(numbers)]), +counts


@cache
def warn_of_stamps(path: Path, topic: str, described: str) -> None:
    """Log once that frames of a camera were left out or sorted."""
    _logger.warning('%s: %s: %s', path, topic, described)


def describe_stamps(counts: Counter[str]) -> str:
    """Return in words how many images were left out or sorted; empty for none."""
    parts = (f'{counts[key]} images {words}' for key, words in OUTCOMES.items() if counts[key])
    return ', '.join(parts)

"""How many grid frames were answered, and how many were not, by the hypotheses' own stamps."""

from collections.abc import Sequence
from itertools import pairwise

# Stamps jitter by this share of a period at most: at an edge only what is clearly missing counts.
_JITTER = 0.25


def grid_loss(
    stamps_ns: Sequence[int], *, begin_ns: int, end_ns: int, frame_period_ns: int
) -> tuple[int, int]:
    """Count the grid frames of one camera in a time, by the stamps of its hypotheses.

    The hypotheses say where the grid lies; whole periods without one, between them and towards the
    edges of the time, are grid frames that were lost.

    Args:
        stamps_ns: Stamps of the camera's hypotheses, in any order.
        begin_ns: Beginning of the time.
        end_ns: Its end.
        frame_period_ns: Nanoseconds between two grid frames.

    Returns:
        Grid frames with a hypothesis, and those without.

    Raises:
        ValueError: The time is shorter than nothing, or the period not longer.
    """
    if end_ns < begin_ns or frame_period_ns <= 0:
        raise ValueError(
            f'from {begin_ns} to {end_ns} ns, a grid frame every {frame_period_ns} ns: expected a '
            'time that ends after it begins and a period above 0'
        )
    inside = sorted({stamp for stamp in stamps_ns if begin_ns <= stamp < end_ns})
    if not inside:
        return 0, (end_ns - begin_ns) // frame_period_ns
    between = sum(
        max(0, round((after - before) / frame_period_ns) - 1) for before, after in pairwise(inside)
    )
    edges = (inside[0] - begin_ns, end_ns - inside[-1])
    outside = sum(max(0, int(edge / frame_period_ns - _JITTER)) for edge in edges)
    return len(inside), between + outside

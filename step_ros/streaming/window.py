# SPDX-License-Identifier: Apache-2.0
"""A window: the tokens of the T newest grid frames of one camera."""

from dataclasses import dataclass

import torch
from torch import Tensor

from step_ros.streaming.frame import FrameHeader


@dataclass(frozen=True, kw_only=True)
class EncodedFrame:
    """A grid frame after the encoder.

    Attributes:
        header: Where and when it was taken.
        slot: Its slot on the grid.
        tokens_nd: Its tokens; None if the attention cache holds their projections instead.
    """

    header: FrameHeader
    slot: int
    tokens_nd: Tensor | None = None


class Window:
    """The newest grid frames, oldest first.

    Each frame has a place from 0 to T - 1 and keeps it while it slides through the window. The
    attention cache stores the frame's data at this place. A frame that leaves frees its place:

        slots, oldest first    7  8  9          8  9  10
        places                 1  2  0   -->    2  0  1     slot 7 left, slot 10 got place 1

    Args:
        frames: How many frames it holds (T).
    """

    def __init__(self, frames: int) -> None:
        self._capacity = frames
        self._frames: list[EncodedFrame] = []
        self._places: dict[int, int] = {}  # by slot

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def full(self) -> bool:
        """Whether it holds T frames."""
        return len(self._frames) == self._capacity

    @property
    def oldest(self) -> EncodedFrame:
        """The frame of the lowest slot."""
        return self._frames[0]

    @property
    def newest(self) -> EncodedFrame:
        """The frame of the highest slot."""
        return self._frames[-1]

    @property
    def stamps_ns(self) -> tuple[int, ...]:
        """Stamps of the frames, oldest first."""
        return tuple(frame.header.stamp_ns for frame in self._frames)

    @property
    def places(self) -> tuple[int, ...]:
        """Places of the frames, oldest first."""
        return tuple(self._places[frame.slot] for frame in self._frames)

    def holds(self, slot: int) -> bool:
        """Return whether the slot has a frame."""
        return slot in self._places

    def clear(self) -> None:
        """Remove all frames."""
        self._frames.clear()
        self._places.clear()

    def insert(self, frame: EncodedFrame) -> int | None:
        """Put a frame in its slot and return its place.

        The frame replaces one in the same slot. From a full window, the oldest frame leaves.

        Returns:
            The place; None if the window is full and the frame is older than all of it.
        """
        if self.holds(frame.slot):
            self._frames = [other for other in self._frames if other.slot != frame.slot]
            place = self._places[frame.slot]
        elif not self.full:
            place = min(set(range(self._capacity)) - set(self._places.values()))
        elif frame.slot < self.oldest.slot:
            return None
        else:
            place = self._places.pop(self._frames.pop(0).slot)
        self._places[frame.slot] = place
        self._frames.append(frame)
        self._frames.sort(key=lambda other: other.slot)
        return place

    def tokens_tnd(self) -> Tensor:
        """Return the tokens of all frames, oldest first, `[t, n, d]`.

        Raises:
            ValueError: A frame has no tokens.
        """
        tokens = [frame.tokens_nd for frame in self._frames if frame.tokens_nd is not None]
        if len(tokens) != len(self):
            raise ValueError('the frames were inserted without their tokens')
        return torch.stack(tokens)

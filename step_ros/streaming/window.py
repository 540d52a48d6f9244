"""A window: the tokens of the T newest grid frames of one camera."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class EncodedFrame:
    """A grid frame after the encoder.

    Attributes:
        slot: Its place on the grid.
        stamp_ns: Its stamp.
        frame_id: Its coordinate frame, from the header.
        received_ns: When it came, by the monotonic clock.
        tokens_nd: Its tokens; None where the heads keep their share of it elsewhere.
    """

    slot: int
    stamp_ns: int
    frame_id: str
    received_ns: int
    tokens_nd: Tensor | None = None


class Window:
    """The newest grid frames, oldest first.

    Each frame has a place, 0 to T - 1, that stays its own while it slides from slot to slot: there
    a cache keeps what belongs to it. A frame that leaves makes its place free for another.

    Args:
        frames: How many it holds (T).
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
        """The frame that came first."""
        return self._frames[0]

    @property
    def newest(self) -> EncodedFrame:
        """The frame that came last."""
        return self._frames[-1]

    @property
    def stamps_ns(self) -> tuple[int, ...]:
        """Stamps of the frames, oldest first."""
        return tuple(frame.stamp_ns for frame in self._frames)

    @property
    def places(self) -> tuple[int, ...]:
        """Places of the frames, oldest first."""
        return tuple(self._places[frame.slot] for frame in self._frames)

    def holds(self, slot: int) -> bool:
        """Whether a frame is in this slot."""
        return slot in self._places

    def clear(self) -> None:
        """Empty it."""
        self._frames.clear()
        self._places.clear()

    def insert(self, frame: EncodedFrame) -> int | None:
        """Put a frame in its slot, in place of one there; the oldest leaves a full window.

        Returns:
            Its place; None if it did not enter, for it is older than all of a full window.
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
        """Stack the tokens of all frames, oldest first, `[t, n, d]`.

        Raises:
            ValueError: A frame has none.
        """
        tokens = [frame.tokens_nd for frame in self._frames if frame.tokens_nd is not None]
        if len(tokens) != len(self):
            raise ValueError('the frames were inserted without their tokens')
        return torch.stack(tokens)

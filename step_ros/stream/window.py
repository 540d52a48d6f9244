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
        tokens_nd: Its patch tokens.
    """

    slot: int
    stamp_ns: int
    frame_id: str
    received_ns: int
    tokens_nd: Tensor


class Window:
    """The newest grid frames, oldest first.

    Args:
        frames: How many it holds (T).
    """

    def __init__(self, frames: int) -> None:
        self._capacity = frames
        self._frames: list[EncodedFrame] = []

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

    def holds(self, slot: int) -> bool:
        """Whether a frame is in this slot."""
        return any(frame.slot == slot for frame in self._frames)

    def clear(self) -> None:
        """Empty it."""
        self._frames.clear()

    def insert(self, frame: EncodedFrame) -> None:
        """Put a frame in its slot, in place of one there; the oldest leaves a full window."""
        kept = [other for other in self._frames if other.slot != frame.slot]
        kept.append(frame)
        kept.sort(key=lambda other: other.slot)
        self._frames = kept[-self._capacity :]

    def tokens_tnd(self) -> Tensor:
        """Stack the tokens of all frames, oldest first, `[t, n, d]`."""
        return torch.stack([frame.tokens_nd for frame in self._frames])

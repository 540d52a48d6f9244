"""Clips as tokens, and the windows that are cut from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from step_ros.datasets.sampling import PHASES
from step_ros.encoders.base import Encoder
from step_ros.reporting.progress import track
from step_ros.streaming.grid import NANOSECONDS, grid_indices
from step_ros.tabletop.simulator import TASKS, Clip, render_clip

WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class ClipTokens:
    """An encoded clip.

    Attributes:
        tokens_fnd: Tokens of all its frames, float16.
        stamps_ns: Their stamps.
        labels: Its label for each task.
    """

    tokens_fnd: Tensor
    stamps_ns: np.ndarray
    labels: dict[str, str]


class _Clips(Dataset[Clip]):
    def __init__(
        self,
        per_action: int,
        split: str,
        views: Sequence[str],
        size: tuple[int, int],
        rate: float,
        seed: int,
    ) -> None:
        self.per_action, self.split, self.views = per_action, split, views
        self.size, self.rate, self.seed = size, rate, seed
        self.actions = TASKS['action']

    def __len__(self) -> int:
        return self.per_action * len(self.actions)

    def __getitem__(self, index: int) -> Clip:
        return render_clip(
            self.actions[index % len(self.actions)],
            # Every clip a scene of its own, the two actions of a pair included.
            seed=self.seed + index,
            split=self.split,
            camera=self.views[(index // len(self.actions)) % len(self.views)],
            size=self.size,
            rate=self.rate,
        )


def encode_tabletop_clips(
    encoder: Encoder,
    *,
    per_action: int,
    split: str,
    views: Sequence[str],
    size: tuple[int, int],
    frame_period: float,
    seed: int,
) -> list[ClipTokens]:
    """Render clips and encode every frame once.

    Args:
        encoder: The frozen encoder.
        per_action: Clips of each action.
        split: `train`, `val` or `test`.
        views: Names of cameras; clips take turns.
        size: Width and height in pixels.
        frame_period: Seconds between two frames of a window.
        seed: Seed of the first clip.
    """
    clips = _Clips(per_action, split, views, size, PHASES / frame_period, seed)
    loader = DataLoader(clips, batch_size=None, num_workers=WORKERS)
    return [
        ClipTokens(
            tokens_fnd=encoder.encode(list(clip.frames_thwc)).half().cpu(),
            stamps_ns=clip.stamps_ns,
            labels=clip.labels,
        )
        for clip in track(loader, f'render and encode {split} clips', len(clips))
    ]


def window_starts(clip: ClipTokens, *, frames: int, frame_period: float) -> list[int]:
    """Return the frames at which a whole window can start."""
    return [
        start
        for start in range(len(clip.stamps_ns))
        if len(_grid(clip, start, frame_period)) >= frames
    ]


def cut_window(clip: ClipTokens, start: int, *, frames: int, frame_period: float) -> Tensor:
    """Cut the window that starts at a frame, by the stream's own grid, `[t, n, d]` in float32."""
    chosen = [start + index for index in _grid(clip, start, frame_period)[:frames]]
    return clip.tokens_fnd[torch.tensor(chosen)].float()


def _grid(clip: ClipTokens, start: int, frame_period: float) -> list[int]:
    return grid_indices(clip.stamps_ns[start:], frame_period_ns=round(frame_period * NANOSECONDS))

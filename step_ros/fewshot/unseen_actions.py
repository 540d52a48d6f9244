# SPDX-License-Identifier: Apache-2.0
"""Clips of the tabletop's unseen actions as few-shot examples: rendered, encoded, sampled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from step_ros.datasets.sampling import PHASES
from step_ros.encoders.base import TorchEncoder
from step_ros.fewshot.examples import cut_windows
from step_ros.fewshot.features import WindowFeatures, head_bodies, join_features, pool_windows
from step_ros.model.bundle import Bundle
from step_ros.model.heads.base import Head
from step_ros.model.tokens import TokenKind, select_tokens
from step_ros.reporting.progress import track
from step_ros.tabletop.simulator import Clip
from step_ros.tabletop.unseen_actions import UNSEEN_ACTIONS, UNSEEN_TASK, render_unseen_action

LABELS = tuple(UNSEEN_ACTIONS)
# Seed of the first scene: the shipped models are neither trained nor evaluated on these scenes.
SEED = 3_000_000
VIEW = 'front'
WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class UnseenClips:
    """Windows of clips of unseen actions; clip i has the label `LABELS[i % len(LABELS)]`.

    Attributes:
        x_wtnd: Tokens of the windows, float16.
        example_w: Index of each window's clip.
    """

    x_wtnd: Tensor
    example_w: np.ndarray

    @property
    def targets(self) -> dict[int, int]:
        """Index of each clip's label, by the index of the clip."""
        return {int(clip): int(clip) % len(LABELS) for clip in np.unique(self.example_w)}


class _ClipDataset(Dataset[Clip]):
    def __init__(self, bundle: Bundle, split: str, per_label: int) -> None:
        image = bundle.spec.image
        self._size = (image.width, image.height)
        self._rate = PHASES / bundle.spec.frame_period
        self._split, self._count = split, per_label * len(LABELS)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Clip:
        return render_unseen_action(
            LABELS[index % len(LABELS)],
            seed=SEED + index,
            split=self._split,
            camera=VIEW,
            size=self._size,
            rate=self._rate,
        )


def encode_unseen_clips(bundle: Bundle, split: str, per_label: int) -> UnseenClips:
    """Render clips of one camera, each in its own scene, and encode each frame once.

    Args:
        bundle: The bundle, which encodes the frames and defines a window.
        split: `train`, `val` or `test`, which share no texture and no speed.
        per_label: Clips of each unseen action.
    """
    encoder = TorchEncoder(bundle.model.backbone, device=torch.device('cpu'), max_batch=64)
    clips = _ClipDataset(bundle, split, per_label)
    loader = DataLoader(clips, batch_size=None, num_workers=WORKERS)
    parts = [
        cut_windows(encoder.encode(list(clip.frames_thwc)).half(), clip.stamps_ns, bundle)
        for clip in track(loader, f'render and encode, {split}', len(clips))
    ]
    return UnseenClips(
        x_wtnd=torch.cat(parts),
        example_w=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
    )


def unseen_features(
    sources: Mapping[str, Head], clips: UnseenClips, kind: TokenKind, *, backward: bool
) -> WindowFeatures:
    """Return the features of the clips' windows, as trained heads compute them.

    Args:
        sources: The trained heads.
        clips: The windows.
        kind: The kind of tokens that the windows hold.
        backward: Whether to compute the features of reversed windows, too.
    """
    bodies = head_bodies(sources)
    wanted = next(iter(sources.values())).consumes
    x_wtnd = select_tokens(clips.x_wtnd, given=kind, wanted=wanted)
    examples = np.unique(clips.example_w)
    parts = []
    for example in track(examples, 'compute features', len(examples)):
        chosen = clips.example_w == example
        x_btnd = x_wtnd[torch.from_numpy(chosen)]
        parts.append(
            WindowFeatures(
                forward=pool_windows(bodies, x_btnd),
                backward=pool_windows(bodies, x_btnd, reverse=True) if backward else {},
                example_w=clips.example_w[chosen],
            )
        )
    return join_features(parts)


def draw_unseen_clips(pool: int, count: int, draw: int) -> list[int]:
    """Return the indices of randomly chosen clips, sorted; all methods get the same clips.

    Args:
        pool: Clips of each label to choose from.
        count: Clips of each label to choose.
        draw: Number of the random choice; enters its seed.
    """
    rng = np.random.default_rng([count, draw])
    classes = len(LABELS)
    return sorted(
        int(clip) * classes + label
        for label in range(classes)
        for clip in rng.choice(pool, count, replace=False)
    )


class DrawnWindows:
    """Windows of the drawn clips for `fit`; one epoch repeats the clips, to have enough steps.

    Args:
        clips: All clips.
        chosen: Indices of the drawn clips.
        kind: The kind of tokens that the windows hold.
        length: Samples in an epoch, over all clips.
    """

    def __init__(
        self, clips: UnseenClips, chosen: Sequence[int], kind: TokenKind, *, length: int
    ) -> None:
        self.kind = kind
        self._x_wtnd = clips.x_wtnd
        self._windows = [np.flatnonzero(clips.example_w == clip) for clip in chosen]
        targets = [clips.targets[clip] for clip in chosen]
        self.targets: Mapping[str, Tensor] = {
            UNSEEN_TASK: torch.tensor([targets[at % len(targets)] for at in range(length)])
        }

    def __len__(self) -> int:
        return len(self.targets[UNSEEN_TASK])

    def choose(self, index: int, rng: np.random.Generator) -> int:
        """Return the index of a random window of a clip."""
        return int(rng.choice(self._windows[index % len(self._windows)]))

    def read(self, index: int, choice: int) -> Tensor:
        """Return the tokens of a window, float32, `[t, n, d]`."""
        del index
        return self._x_wtnd[choice].float()

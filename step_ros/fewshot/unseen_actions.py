"""The tabletop's lessons as examples to teach by: rendered, encoded, and drawn at random."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from step_ros.datasets.sampling import PHASES
from step_ros.encoders.base import TorchEncoder
from step_ros.fewshot.examples import cut_windows
from step_ros.fewshot.features import WindowFeatures, headless, join_features, pool_windows
from step_ros.model.bundle import Bundle
from step_ros.model.heads.base import Head
from step_ros.model.tokens import TokenKind, select_tokens
from step_ros.reporting.progress import track
from step_ros.tabletop.simulator import Clip
from step_ros.tabletop.unseen_actions import LESSON_TASK, UNSEEN_ACTIONS, render_unseen_action
from step_ros.training.clips import WORKERS

LABELS = tuple(UNSEEN_ACTIONS)
# Clear of the scenes that the shipped model was trained on and is judged by.
SEED = 3_000_000
VIEW = 'front'


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """Windows of lesson clips; the labels of the clips take turns.

    Attributes:
        x_wtnd: Tokens of the windows, float16.
        example_w: Which clip a window is of.
    """

    x_wtnd: Tensor
    example_w: np.ndarray

    @property
    def targets(self) -> dict[int, int]:
        """Number of each clip's label."""
        return {int(n): int(n) % len(LABELS) for n in np.unique(self.example_w)}


class _LessonClips(Dataset[Clip]):
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


def encode_unseen_clips(bundle: Bundle, split: str, per_label: int) -> Lessons:
    """Render clips of one camera, each of a scene of its own, and encode each frame once.

    Args:
        bundle: Says what a window is, and encodes.
        split: `train`, `val` or `test`, which share no texture and no speed.
        per_label: Clips of each lesson.
    """
    encoder = TorchEncoder(bundle.model.backbone, device=torch.device('cpu'), max_batch=64)
    clips = _LessonClips(bundle, split, per_label)
    loader = DataLoader(clips, batch_size=None, num_workers=WORKERS)
    parts = [
        cut_windows(encoder.encode(list(clip.frames_thwc)).half(), clip.stamps_ns, bundle)
        for clip in track(loader, f'render and encode, {split}', len(clips))
    ]
    return Lessons(
        x_wtnd=torch.cat(parts),
        example_w=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
    )


def unseen_features(
    sources: Mapping[str, Head], lessons: Lessons, kind: TokenKind, *, backward: bool
) -> WindowFeatures:
    """Return what trained heads see in lessons.

    Args:
        sources: The heads.
        lessons: The windows.
        kind: Which tokens of a frame these hold.
        backward: Whether the features of reversed windows are wanted, too.
    """
    bodies = headless(sources)
    wanted = next(iter(sources.values())).consumes
    x_wtnd = select_tokens(lessons.x_wtnd, given=kind, wanted=wanted)
    examples = np.unique(lessons.example_w)
    parts = []
    for example in track(examples, 'what heads see in them', len(examples)):
        chosen = lessons.example_w == example
        x_btnd = x_wtnd[torch.from_numpy(chosen)]
        parts.append(
            WindowFeatures(
                forward=pool_windows(bodies, x_btnd),
                backward=pool_windows(bodies, x_btnd, reverse=True) if backward else {},
                example_w=lessons.example_w[chosen],
            )
        )
    return join_features(parts)


def draw_unseen_clips(pool: int, count: int, draw: int) -> list[int]:
    """Choose examples of each label; the same ones for all methods."""
    rng = np.random.default_rng([count, draw])
    classes = len(LABELS)
    return sorted(
        int(number) * classes + label
        for label in range(classes)
        for number in rng.choice(pool, count, replace=False)
    )


class DrawnWindows:
    """Windows of drawn clips for `fit`, over and over, so that one epoch has enough steps.

    Args:
        lessons: All clips.
        chosen: Numbers of the drawn ones.
        kind: Which tokens of a frame they hold.
        length: How often a clip is shown, over all clips.
    """

    def __init__(
        self, lessons: Lessons, chosen: Sequence[int], kind: TokenKind, *, length: int
    ) -> None:
        self.kind = kind
        self._x_wtnd = lessons.x_wtnd
        self._places = [np.flatnonzero(lessons.example_w == number) for number in chosen]
        numbers = [lessons.targets[number] for number in chosen]
        self.targets: Mapping[str, Tensor] = {
            LESSON_TASK: torch.tensor([numbers[at % len(numbers)] for at in range(length)])
        }

    def __len__(self) -> int:
        return len(self.targets[LESSON_TASK])

    def choose(self, index: int, rng: np.random.Generator) -> int:
        """Choose a window of a clip."""
        return int(rng.choice(self._places[index % len(self._places)]))

    def read(self, index: int, choice: int) -> Tensor:
        """Return the tokens of a window, float32, `[t, n, d]`."""
        del index
        return self._x_wtnd[choice].float()

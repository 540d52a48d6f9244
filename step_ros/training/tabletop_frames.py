"""Rendered frames with dense labels, for pre-training the encoder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from step_ros.data.tabletop import Tabletop
from step_ros.training.progress import track

# Times of a scene that frames are drawn from, in seconds: some thirty actions.
SPAN = 60.0
WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class SupervisedFrames:
    """Frames and what the renderer knows of them.

    Attributes:
        images_bhw3: The frames, uint8 RGB.
        ids_bhw: What is visible at each pixel, uint8.
        states_bs: State of the scene, scaled to about [-1, 1].
    """

    images_bhw3: Tensor
    ids_bhw: Tensor
    states_bs: Tensor


class _Scenes(Dataset[tuple[np.ndarray, np.ndarray, np.ndarray]]):
    def __init__(
        self, scenes: int, per_scene: int, views: Sequence[str], size: tuple[int, int], seed: int
    ) -> None:
        self.scenes, self.per_scene, self.views, self.size, self.seed = (
            scenes,
            per_scene,
            views,
            size,
            seed,
        )

    def __len__(self) -> int:
        return self.scenes

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scene = Tabletop(seed=self.seed + index, split='train')
        rng = np.random.default_rng((self.seed, index))
        view = self.views[index % len(self.views)]
        frames = [
            scene.render_supervised(float(time), camera=view, size=self.size)
            for time in np.sort(rng.uniform(0.0, SPAN, self.per_scene))
        ]
        return (
            np.stack([image for image, _ in frames]),
            np.stack([truth.ids_hw for _, truth in frames]),
            np.stack([truth.state_vector for _, truth in frames]),
        )


def render_supervised_frames(
    *, scenes: int, per_scene: int, views: Sequence[str], size: tuple[int, int], seed: int
) -> SupervisedFrames:
    """Render frames of the training split.

    Args:
        scenes: How many scenes; views take turns.
        per_scene: Frames of each scene, at random times.
        views: Names of cameras.
        size: Width and height in pixels.
        seed: Seed of the first scene.
    """
    loader = DataLoader(
        _Scenes(scenes, per_scene, views, size, seed), batch_size=None, num_workers=WORKERS
    )
    parts = list(track(loader, 'render frames', scenes))
    images, ids, states = zip(*parts, strict=True)
    return SupervisedFrames(
        images_bhw3=torch.cat([torch.as_tensor(part) for part in images]),
        ids_bhw=torch.cat([torch.as_tensor(part) for part in ids]),
        states_bs=torch.cat([torch.as_tensor(part) for part in states]).float(),
    )

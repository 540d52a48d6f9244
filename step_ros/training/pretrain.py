"""Dense pre-training of a small encoder: each token learns what is where.

A randomly initialised encoder does not generalise to new scenes, and natural-image weights are not
ours to ship, so the demonstrator's encoder learns from the renderer's own labels. It never sees an
action label or more than one frame: order is left to the heads.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from step_ros.encoders.base import normalise
from step_ros.model.backbone import Backbone
from step_ros.reporting.progress import track
from step_ros.tabletop.simulator import Tabletop
from step_ros.training.config import Optimisation
from step_ros.training.fit import cosine_schedule

# ---- Rendered frames with dense labels, for pre-training the encoder.

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


# A patch is described by 2 x 2 cells.
CELLS = 2

# Weight of cells that show more than table and background, which fill most of a frame.
FOREGROUND_WEIGHT = 4.0

STATE_WEIGHT = 4.0

GRADIENT_NORM = 1.0


class DenseDecoder(nn.Module):
    """Reads from each token, linearly, what its patch shows and the state of the whole scene.

    Args:
        width: Channels of a token.
        surfaces: Number of kinds of surface.
        state: Length of the state vector.
    """

    def __init__(self, width: int, *, surfaces: int, state: int) -> None:
        super().__init__()
        self.cells = nn.Linear(width, surfaces * CELLS**2)
        self.state = nn.Linear(width, state)

    def loss(self, x_bnd: Tensor, shares_bnsc: Tensor, states_bs: Tensor) -> Tensor:
        """Compare with the truth.

        Args:
            x_bnd: Tokens.
            shares_bnsc: For each patch and kind of surface, its share of each cell.
            states_bs: State vectors.
        """
        logits_bnsc = self.cells(x_bnd).view(shares_bnsc.shape)
        cross_entropy_bnc = -(shares_bnsc * logits_bnsc.log_softmax(dim=2)).sum(dim=2)
        foreground_bnc = 1 - shares_bnsc[:, :, :2].sum(dim=2)
        weight_bnc = 1 + (FOREGROUND_WEIGHT - 1) * foreground_bnc
        dense = (weight_bnc * cross_entropy_bnc).mean()
        states_bns = states_bs[:, None].expand(-1, x_bnd.shape[1], -1)
        state: Tensor = F.smooth_l1_loss(self.state(x_bnd), states_bns, beta=0.1)
        total: Tensor = dense + STATE_WEIGHT * state
        return total


def surface_shares(ids_bhw: Tensor, *, surfaces: int, grid_size: tuple[int, int]) -> Tensor:
    """Return the share of each kind of surface in each cell of each patch, `[b, n, s, c]`.

    Args:
        ids_bhw: Kind of surface at each pixel.
        surfaces: Number of kinds.
        grid_size: Rows and columns of patches.
    """
    rows, columns = grid_size
    hot_bshw = F.one_hot(ids_bhw.long(), surfaces).permute(0, 3, 1, 2).float()
    cells = F.adaptive_avg_pool2d(hot_bshw, (rows * CELLS, columns * CELLS))
    batch = cells.shape[0]
    return (
        cells.view(batch, surfaces, rows, CELLS, columns, CELLS)
        .permute(0, 2, 4, 1, 3, 5)
        .reshape(batch, rows * columns, surfaces, CELLS**2)
    )


def augment(x_bhw3: Tensor, generator: torch.Generator) -> Tensor:
    """Vary exposure, contrast and colour balance of uint8 images."""
    batch = x_bhw3.shape[0]
    gain_b113 = 1 + 0.15 * torch.randn(batch, 1, 1, 3, generator=generator)
    offset_b111 = 12 * torch.randn(batch, 1, 1, 1, generator=generator)
    return (x_bhw3.float() * gain_b113 + offset_b111).clamp_(0, 255)


def pretrain_encoder(
    backbone: Backbone,
    frames: SupervisedFrames,
    recipe: Optimisation,
    *,
    surfaces: int,
    seed: int,
) -> list[float]:
    """Train the encoder in place; it is frozen again afterwards.

    Args:
        backbone: A randomly initialised encoder.
        frames: What it learns from.
        recipe: How long and how fast.
        surfaces: Number of kinds of surface in `frames.ids_bhw`.
        seed: Seed of shuffling and augmentation.

    Returns:
        Mean loss of each epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(frames.images_bhw3)
    decoder = DenseDecoder(backbone.width, surfaces=surfaces, state=frames.states_bs.shape[1])
    vit = backbone.vit.requires_grad_(True).train()
    parameters = [*vit.parameters(), *decoder.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    steps = math.ceil(count / recipe.batch)
    schedule = cosine_schedule(optimiser, recipe.epochs * steps)
    losses: list[float] = []
    for epoch in range(recipe.epochs):
        total = 0.0
        order = torch.split(torch.randperm(count, generator=generator), recipe.batch)
        for chosen in track(order, f'pre-train, epoch {epoch + 1}/{recipe.epochs}', steps):
            images = augment(frames.images_bhw3[chosen], generator)
            tokens = vit.forward_features(normalise(images, mean=backbone.mean, std=backbone.std))
            shares = surface_shares(
                frames.ids_bhw[chosen], surfaces=surfaces, grid_size=backbone.grid_size
            )
            loss = decoder.loss(
                tokens[:, vit.num_prefix_tokens :], shares, frames.states_bs[chosen]
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
            optimiser.step()
            schedule.step()
            total += loss.item() * len(chosen)
        losses.append(total / count)
    vit.requires_grad_(False).eval()
    return losses

# SPDX-License-Identifier: Apache-2.0
"""Dense pre-training of a small encoder: each token learns which surfaces its patch shows.

A randomly initialised encoder does not generalise to new scenes, and natural-image weights may not
ship with this package. So the demonstrator's encoder learns from the renderer's own labels. It
never sees an action label or more than one frame: order is left to the heads.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from step_ros.encoders.base import normalise
from step_ros.files import replace_file
from step_ros.model.backbone import RANDOM, Backbone, create_backbone
from step_ros.model.weights import save_weights
from step_ros.reporting.progress import track
from step_ros.tabletop.simulator import SURFACES, Tabletop
from step_ros.training.config import BackboneRecipe, Optimisation
from step_ros.training.fit import cosine_schedule
from step_ros.training.lock import file_lock

# Frames are drawn from the first seconds of a scene: some thirty actions.
SPAN = 60.0

WORKERS = 2

# A patch is described by 2 x 2 cells.
CELLS = 2

# Weight of cells that show more than table and background, which fill most of a frame.
FOREGROUND_WEIGHT = 4.0

STATE_WEIGHT = 4.0

GRADIENT_NORM = 1.0


def pretrained_backbone(recipe: BackboneRecipe, folder: Path, *, seed: int) -> Backbone:
    """Return the encoder of a recipe, pre-trained now or by an earlier call.

    The weights lie in `folder`, in a file named by all settings that change them. The mean loss of
    each epoch lies beside them. Processes that call this at once wait for the first one.

    Args:
        recipe: Architecture, image size and pre-training.
        folder: Folder of all pre-trained encoders.
        seed: Seed of initial weights, scenes, order and augmentation.

    Raises:
        ValueError: The recipe has no pre-training, or timm does not know the architecture.
    """
    if recipe.name is None or recipe.pretraining is None:
        raise ValueError('backbone.pretraining: the recipe has none')
    path = _weights_file(recipe, folder, seed)
    size = (recipe.image_height, recipe.image_width)

    def create(weights: str | Path) -> Backbone:
        assert recipe.name is not None
        return create_backbone(
            recipe.name,
            weights=weights,
            image_size=size,
            seed=seed,
            arguments=recipe.arguments,
        )

    with file_lock(path.with_suffix('.lock')):
        if not path.is_file():
            backbone = create(RANDOM)
            settings = recipe.pretraining
            frames = render_supervised_frames(
                scenes=settings.scenes,
                per_scene=settings.frames_per_scene,
                views=settings.views,
                size=size[::-1],
                seed=seed,
            )
            losses = pretrain_encoder(
                backbone, frames, settings, surfaces=len(SURFACES), seed=seed
            )
            with replace_file(_losses_file(path)) as partial:
                partial.write_text(json.dumps(losses), encoding='utf-8')
            with replace_file(path) as partial:
                save_weights(backbone.vit.state_dict(), partial, grid=backbone.grid_size)
    return create(path)


def pretraining_losses(recipe: BackboneRecipe, folder: Path, *, seed: int) -> list[float]:
    """Return the mean loss of each epoch of `pretrained_backbone`; arguments as there."""
    path = _losses_file(_weights_file(recipe, folder, seed))
    losses: list[float] = json.loads(path.read_text(encoding='utf-8'))
    return losses


def _weights_file(recipe: BackboneRecipe, folder: Path, seed: int) -> Path:
    # The token grid averages tokens after the encoder: its weights do not depend on it.
    settings = recipe.model_dump(mode='json', exclude={'token_grid', 'weights', 'bundle'})
    content = json.dumps({**settings, 'seed': seed}, sort_keys=True)
    return folder / f'encoder-{hashlib.sha256(content.encode()).hexdigest()[:16]}.safetensors'


def _losses_file(weights: Path) -> Path:
    return weights.with_suffix('.losses.json')


@dataclass(frozen=True, kw_only=True)
class SupervisedFrames:
    """Rendered frames and the renderer's own labels.

    Attributes:
        images_bhw3: The frames, uint8 RGB.
        ids_bhw: Kind of surface at each pixel, uint8.
        states_bs: State of the scene, scaled to about [-1, 1].
    """

    images_bhw3: Tensor
    ids_bhw: Tensor
    states_bs: Tensor


def render_supervised_frames(
    *, scenes: int, per_scene: int, views: Sequence[str], size: tuple[int, int], seed: int
) -> SupervisedFrames:
    """Render labelled frames of the training split.

    Args:
        scenes: Number of scenes; they rotate through the views.
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


class _Scenes(Dataset[tuple[np.ndarray, np.ndarray, np.ndarray]]):
    """Frames, surfaces and states of each scene."""

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


def pretrain_encoder(
    backbone: Backbone,
    frames: SupervisedFrames,
    settings: Optimisation,
    *,
    surfaces: int,
    seed: int,
) -> list[float]:
    """Train the encoder in place, then freeze it again.

    Args:
        backbone: A randomly initialised encoder.
        frames: The labelled frames to learn from.
        settings: Epochs, batch and rates.
        surfaces: Number of kinds of surface in `frames.ids_bhw`.
        seed: Seed of shuffling and augmentation.

    Returns:
        Mean loss of each epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(frames.images_bhw3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = DenseDecoder(backbone.width, surfaces=surfaces, state=frames.states_bs.shape[1])
    vit = backbone.vit.requires_grad_(True).train()
    parameters = [*vit.parameters(), *decoder.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps = math.ceil(count / settings.batch)
    schedule = cosine_schedule(optimiser, settings.epochs * steps)
    losses: list[float] = []
    for epoch in range(settings.epochs):
        total = 0.0
        order = torch.split(torch.randperm(count, generator=generator), settings.batch)
        for chosen in track(order, f'pre-train, epoch {epoch + 1}/{settings.epochs}', steps):
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


class DenseDecoder(nn.Module):
    """Linear readout of each token: surfaces of its patch, and state of the whole scene.

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
        """Return the loss of tokens against the renderer's labels.

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
    """Return uint8 images with varied exposure, contrast and colour balance, as float."""
    batch = x_bhw3.shape[0]
    gain_b113 = 1 + 0.15 * torch.randn(batch, 1, 1, 3, generator=generator)
    offset_b111 = 12 * torch.randn(batch, 1, 1, 1, generator=generator)
    return (x_bhw3.float() * gain_b113 + offset_b111).clamp_(0, 255)

# SPDX-License-Identifier: Apache-2.0
"""Dense pre-training: the targets count pixels, and the loss falls."""

import torch

from step_ros.model.backbone import create_backbone
from step_ros.tabletop.simulator import SURFACES
from step_ros.training.config import Optimisation
from step_ros.training.pretrain import pretrain_encoder, render_supervised_frames, surface_shares


def test_surface_shares_count_pixels_cell_by_cell():
    ids = torch.zeros(1, 4, 8, dtype=torch.uint8)
    ids[0, :2, 6:] = 2  # the upper right cell of the right patch
    ids[0, 2, 0] = 1  # a quarter of the lower left cell of the left patch
    shares = surface_shares(ids, surfaces=3, grid_size=(1, 2))
    assert shares.shape == (1, 2, 3, 4)
    assert torch.equal(shares.sum(dim=2), torch.ones(1, 2, 4))
    assert shares[0, 1, 2].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert shares[0, 0, 1].tolist() == [0.0, 0.0, 0.25, 0.0]


def test_pretraining_lowers_the_loss_and_freezes_the_encoder():
    backbone = create_backbone(
        'vit_tiny_patch16_224',
        weights='random',
        image_size=(48, 64),
        arguments={'embed_dim': 32, 'depth': 1, 'num_heads': 2},
    )
    frames = render_supervised_frames(
        scenes=4, per_scene=8, views=['front', 'top'], size=(64, 48), seed=0
    )
    assert frames.images_bhw3.shape == (32, 48, 64, 3)
    settings = Optimisation(epochs=4, batch=8, learning_rate=3e-3, weight_decay=0.0)
    losses = pretrain_encoder(backbone, frames, settings, surfaces=len(SURFACES), seed=0)
    assert losses[-1] < 0.8 * losses[0]
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone.vit.training

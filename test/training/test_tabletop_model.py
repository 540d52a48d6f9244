"""The recipe of the model that ships, in miniature: from nothing to a bundle."""

import torch

from step_ros.model.bundle import load_bundle
from step_ros.training.config import Recipe
from step_ros.training.tabletop_model import make_tabletop_model

RECIPE = {
    'name': 'miniature',
    'views': ['front'],
    'image_height': 60,
    'image_width': 80,
    'token_grid': [3, 2],
    'frames': 4,
    'frame_period': 0.2,
    'encoder': {
        'backbone': 'vit_tiny_patch16_224',
        'arguments': {'patch_size': 20, 'embed_dim': 32, 'depth': 1, 'num_heads': 2},
        'scenes': 2,
        'frames_per_scene': 4,
        'epochs': 1,
        'batch': 8,
        'learning_rate': 1e-3,
        'weight_decay': 0.05,
    },
    'heads': {
        'attention_heads': 2,
        'clips_per_action': 1,
        'epochs': 1,
        'batch': 8,
        'learning_rate': 3e-3,
        'weight_decay': 0.02,
    },
    'evaluation': {'validation_clips_per_action': 1, 'test_clips_per_action': 1},
}


def test_a_miniature_on_fewer_tokens_is_made_whole(tmp_path):
    bundle = make_tabletop_model(Recipe.model_validate(RECIPE), tmp_path)
    assert load_bundle(tmp_path).model_id == bundle.model_id
    assert bundle.spec.backbone.token_grid == (3, 2)
    assert bundle.model.backbone.grid_size == (3, 4)
    assert bundle.spec.metrics['test_clips'] == 16
    card = (tmp_path / 'README.md').read_text()
    assert '6 tokens of width' in card
    with torch.inference_mode():
        answers = bundle.model(torch.zeros(1, 4, 3, 60, 80))
    assert {task: logits.shape[1] for task, logits in answers.items()} == {
        'action': 16,
        'verb': 12,
        'object': 9,
    }

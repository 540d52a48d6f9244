"""Recipes: the shipped one is valid, anything unknown or wrong is refused by name."""

import pytest
import yaml

from step_ros.resources import share_directory
from step_ros.training.recipe_file import RecipeError, load_recipe

SHIPPED = share_directory() / 'config' / 'training' / 'tabletop-tiny.yaml'


def test_the_shipped_recipe_is_valid():
    assert load_recipe(SHIPPED).name == 'tabletop-tiny'


def test_the_recipe_for_own_videos_is_valid_and_the_papers():
    recipe = load_recipe(SHIPPED.with_name('own-videos.yaml'))
    assert (recipe.sampling.frames, recipe.sampling.interval, recipe.sampling.test_clips) == (
        16,
        2,
        3,
    )
    heads = recipe.heads
    assert (heads.batch, heads.epochs, heads.learning_rate) == (32, 60, 1e-3)
    assert (heads.weight_decay, heads.optimiser) == (0.02, 'adamw')


@pytest.mark.parametrize(
    ('change', 'key'),
    [
        ({'epoch': 3}, 'epoch'),
        ({'frames': 1}, 'frames'),
        ({'views': ['behind']}, 'views.0'),
        ({'encoder': {'backbone': 'vit_tiny_patch16_224'}}, 'encoder'),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path, change, key):
    path = tmp_path / 'recipe.yaml'
    path.write_text(yaml.safe_dump({**yaml.safe_load(SHIPPED.read_text()), **change}))
    with pytest.raises(RecipeError, match=rf'{path}: {key}'):
        load_recipe(path)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match='nowhere'):
        load_recipe(tmp_path / 'nowhere.yaml')
    broken = tmp_path / 'broken.yaml'
    broken.write_text('a: [')
    with pytest.raises(RecipeError, match='broken'):
        load_recipe(broken)

# SPDX-License-Identifier: Apache-2.0
"""Recipes: shipped ones are valid and follow the papers; wrong keys and values are refused."""

import pytest
import timm
import yaml

from step_ros.datasets.registry import READERS
from step_ros.datasets.schema import load_dataset_config
from step_ros.resources import share_directory
from step_ros.training.config import (
    BackboneRecipe,
    DataRecipe,
    RecipeError,
    SamplingRecipe,
    load_recipe,
)

SHIPPED = share_directory() / 'config' / 'training' / 'tabletop-tiny.yaml'
PUBLISHED = ('drive-and-act', 'hri30', 'ikea-asm', 'ntu120', 'ssv2')


def test_the_shipped_recipe_is_valid():
    assert load_recipe(SHIPPED).name == 'tabletop-tiny'


def test_the_recipe_for_own_videos_has_the_papers_values():
    recipe = load_recipe(SHIPPED.with_name('own-videos.yaml'))
    assert (recipe.sampling.frames, recipe.sampling.interval, recipe.sampling.test_clips) == (
        16,
        2,
        3,
    )
    heads = recipe.heads
    assert (heads.batch, heads.epochs, heads.learning_rate) == (32, 60, 1e-3)
    assert (heads.weight_decay, heads.optimiser) == (0.02, 'adamw')


@pytest.mark.parametrize('path', sorted(SHIPPED.parent.glob('*.yaml')), ids=lambda path: path.stem)
def test_shipped_recipes_name_existing_datasets_and_encoders(path):
    recipe = load_recipe(path)
    reader = READERS[recipe.data.dataset]
    config = load_dataset_config(recipe.data.dataset) if reader.has_config else None
    options = {option.name: option for option in reader.options}
    for name, value in recipe.data.options.items():
        choices = options[name].choices(config)
        assert not choices or value in choices
    if recipe.backbone.from_hub:
        assert recipe.backbone.name in timm.list_pretrained()
    elif recipe.backbone.pretraining is not None:
        assert timm.is_model(recipe.backbone.name)


@pytest.mark.parametrize('name', PUBLISHED)
def test_recipes_of_published_datasets_follow_the_paper(name):
    """Longer STEP paper, supplement B; sampling at test time as in the dataset's file."""
    recipe = load_recipe(SHIPPED.with_name(f'{name}.yaml'))
    assert recipe.data.dataset == name
    assert recipe.backbone.name == 'vit_base_patch14_dinov2.lvd142m'
    assert (recipe.backbone.image_height, recipe.backbone.image_width) == (224, 224)
    protocol, sampling = load_dataset_config(name).evaluation, recipe.sampling
    assert (sampling.kind, sampling.frames, sampling.interval) == (
        protocol.sampling,
        protocol.frames,
        protocol.interval,
    )
    assert (sampling.test_clips, sampling.test_crops) == (protocol.clips, protocol.crops)
    assert sampling.test_views == protocol.clips * protocol.crops
    heads = recipe.heads
    assert (heads.name, heads.epochs, heads.batch) == ('step', 60, 32)
    assert (heads.learning_rate, heads.weight_decay) == (1e-3, 0.02)
    assert heads.optimiser == ('sgd' if name == 'ntu120' else 'adamw')
    augmentation = recipe.augmentation
    assert augmentation.flip
    assert (augmentation.rand_augment is not None) == (name == 'ssv2')
    assert (augmentation.random_erasing is not None) == (name == 'ssv2')


@pytest.mark.parametrize(
    ('values', 'why'),
    [
        ({'kind': 'segments', 'interval': 2}, 'interval=2 goes with kind interval: leave it out'),
        (
            {'kind': 'segments', 'test_clips': 3},
            'test_clips=3: segments reach over the whole clip',
        ),
        ({'kind': 'segment'}, 'kind'),
        ({'interval': None}, 'give an interval or a frame_period'),
        ({'frame_period': float('inf')}, 'frame_period'),
        ({'test_crops': 0}, 'test_crops'),
    ],
)
def test_contradictory_sampling_is_refused_with_the_mend(values, why):
    with pytest.raises(ValueError, match=why):
        SamplingRecipe(**values)


def test_segments_have_their_own_defaults():
    segments = SamplingRecipe(kind='segments', test_crops=3)
    assert (segments.interval, segments.test_clips, segments.test_views) == (None, 1, 3)
    assert SamplingRecipe(kind='segments', frame_period=0.2).frame_period == 0.2
    assert SamplingRecipe.model_validate(segments.model_dump()) == segments
    plain = SamplingRecipe()
    assert (plain.kind, plain.interval, plain.test_views) == ('interval', 2, 3)


def test_a_wrong_nested_value_is_named(tmp_path):
    content = yaml.safe_load(SHIPPED.with_name('ssv2.yaml').read_text())
    content['augmentation']['rand_augment']['magnitude'] = 31
    path = tmp_path / 'recipe.yaml'
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(RecipeError, match=rf'{path}: augmentation\.rand_augment\.magnitude: .*30'):
        load_recipe(path)


@pytest.mark.parametrize(
    ('change', 'key'),
    [
        ({'epoch': 3}, 'epoch'),
        ({'sampling': {'frames': 0}}, 'sampling.frames'),
        (
            {
                'data': {
                    'dataset': 'tabletop',
                    'root': 'tabletop',
                    'rendering': {'views': ['behind']},
                }
            },
            'data.rendering.views.0',
        ),
        (
            {'backbone': {'name': 'vit_tiny_patch16_224', 'pretraining': {'scenes': 1}}},
            'backbone.pretraining',
        ),
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


@pytest.mark.parametrize(
    ('section', 'values', 'why'),
    [
        (
            DataRecipe,
            {'dataset': 'csv', 'root': 'videos', 'rendering': {}},
            'rendering is for the dataset tabletop, not for csv',
        ),
        (
            BackboneRecipe,
            {'bundle': 'tabletop-tiny', 'arguments': {'depth': 4}},
            'go with a name, not with a bundle',
        ),
        (
            BackboneRecipe,
            {
                'name': 'vit_tiny_patch16_224',
                'weights': 'own.safetensors',
                'pretraining': {
                    'scenes': 1,
                    'frames_per_scene': 1,
                    'epochs': 1,
                    'batch': 1,
                    'learning_rate': 1e-3,
                    'weight_decay': 0,
                },
            },
            'weights=own.safetensors: pretraining makes the weights',
        ),
    ],
)
def test_keys_that_exclude_each_other_are_refused(section, values, why):
    with pytest.raises(ValueError, match=why):
        section(**values)

# SPDX-License-Identifier: Apache-2.0
"""Bundles: a loaded model equals the saved one, and each model has its own identity."""

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from step_ros.model.bundle import (
    BundleError,
    create_heads,
    load_bundle,
    model_id,
    read_spec,
    save_bundle,
)
from step_ros.model.bundle_schema import HeadsSpec, TaskSpec
from step_ros.model.heads.registry import create_head
from step_ros.model.heads.step import StepHead
from step_ros.model.multitask import MultiTaskModel
from step_ros.model.weights import file_digest

NO_DIGEST = 'sha256:' + 64 * '0'
HEADS, BACKBONE, SPEC = 'heads.safetensors', 'backbone.safetensors', 'bundle.yaml'


@pytest.fixture
def clips():
    return torch.randn(2, 4, 3, 32, 48, generator=torch.Generator().manual_seed(2))


def logits_of(model, clips):
    with torch.inference_mode():
        return model(clips)


def assert_equal(ones, others):
    assert list(ones) == list(others)
    for task in ones:
        assert torch.equal(ones[task], others[task]), task


# ---- round trip


@pytest.mark.parametrize('positions', ['learnable', 'none'])
@pytest.mark.parametrize('weights', [BACKBONE, 'eyes.safetensors', 'random'])
def test_round_trip_gives_bit_equal_logits(
    weights, positions, tiny_model, save_tiny_bundle, tmp_path, clips
):
    model = tiny_model(positions=positions)
    saved = save_tiny_bundle(tmp_path / 'a' / 'b', model, backbone_weights=weights)
    loaded = load_bundle(tmp_path / 'a' / 'b')
    expected = logits_of(model, clips)
    assert_equal(logits_of(saved.model, clips), expected)
    assert_equal(logits_of(loaded.model, clips), expected)
    assert loaded.spec == saved.spec
    assert loaded.model_id == saved.model_id
    assert loaded.path == tmp_path / 'a' / 'b'
    assert (loaded.path / BACKBONE).exists() == (weights == BACKBONE)
    assert not loaded.model.training
    assert not any(module.training for module in loaded.model.modules())


def test_round_trip_of_a_wide_image_is_bit_equal(tiny_model, tmp_path):
    # 9 x 16 patches are as many as 12 x 12: the loader must not assume a square.
    from step_ros.model.backbone import create_backbone

    arguments = {'embed_dim': 32, 'depth': 1, 'num_heads': 2}
    backbone = create_backbone(
        'vit_tiny_patch16_224', weights='random', image_size=(144, 256), arguments=arguments
    )
    model = MultiTaskModel(backbone, tiny_model().heads).eval()
    tasks = tuple(
        TaskSpec(name=task, labels=tuple(f'label {index}' for index in range(head.classes)))
        for task, head in model.heads.items()
    )
    bundle = save_bundle(
        tmp_path,
        model,
        name='wide',
        frame_period=0.1,
        tasks=tasks,
        backbone_arguments=arguments,
    )
    x_bt3hw = torch.randn(1, 4, 3, 144, 256)
    assert_equal(logits_of(bundle.model, x_bt3hw), logits_of(model, x_bt3hw))


def test_round_trip_of_a_token_grid_is_bit_equal(tiny_model, save_tiny_bundle, tmp_path, clips):
    model = tiny_model(token_grid=(1, 3), options={'positions': 'token-wise'})
    saved = save_tiny_bundle(tmp_path, model)
    loaded = load_bundle(tmp_path)
    assert loaded.spec.backbone.token_grid == (1, 3)
    assert loaded.model.backbone.tokens == 3
    assert_equal(logits_of(loaded.model, clips), logits_of(model, clips))
    # Few-shot learning saves a loaded model again: its identity must stay.
    again = save_tiny_bundle(tmp_path / 'again', loaded.model)
    assert again.model_id == saved.model_id


def test_older_bundle_without_token_grid_is_the_same(copy, tiny_bundle, clips):
    assert tiny_bundle.spec.backbone.token_grid is None
    copy.edit('backbone.token_grid', ...)
    loaded = load_bundle(copy.folder)
    assert loaded.model_id == tiny_bundle.model_id
    assert_equal(logits_of(loaded.model, clips), logits_of(tiny_bundle.model, clips))


def test_spec_describes_the_saved_model(tiny_bundle):
    spec = read_spec(tiny_bundle.path)
    assert spec == tiny_bundle.spec
    assert (spec.name, spec.format, spec.frames, spec.frame_period) == ('tiny', 1, 4, 0.1)
    assert (spec.image.height, spec.image.width) == (32, 48)
    assert [task.name for task in spec.tasks] == ['action', 'verb', 'object']
    assert tiny_bundle.model.tasks == ('action', 'verb', 'object')
    assert spec.tasks[0].counterparts['lay down'] == 'pick up'
    assert spec.heads.digest == file_digest(tiny_bundle.path / HEADS)
    assert spec.backbone.digest == file_digest(tiny_bundle.path / BACKBONE)


def test_normalisation_comes_from_the_bundle(tiny_bundle):
    backbone = tiny_bundle.model.backbone
    assert (backbone.mean, backbone.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert backbone.vit.pretrained_cfg['mean'] != backbone.mean


def test_descriptive_fields_are_saved(tiny_model, save_tiny_bundle, tmp_path):
    about = {
        'description': 'Zwölf Griffe – «links» und «rechts»',
        'license': 'Apache-2.0',
        'provenance': {'seed': 1, 'data': ['a', 'b']},
        'metrics': {'action': {'top1': 0.5}},
    }
    spec = save_tiny_bundle(tmp_path, tiny_model(), **about).spec
    assert {key: getattr(spec, key) for key in about} == about


def test_save_replaces_an_existing_bundle(tiny_model, save_tiny_bundle, tmp_path):
    first = save_tiny_bundle(tmp_path, tiny_model())
    second = save_tiny_bundle(tmp_path, tiny_model(positions='none'), name='second')
    assert second.spec.name == 'second'
    assert load_bundle(tmp_path).model_id == second.model_id != first.model_id


def test_bundle_can_be_moved(copy, tiny_bundle, clips):
    moved = load_bundle(shutil.move(copy.folder, copy.folder.with_name('moved')))
    assert_equal(logits_of(moved.model, clips), logits_of(tiny_bundle.model, clips))


def test_heads_with_different_options_are_refused(tiny_model, save_tiny_bundle, tmp_path):
    # The number of attention heads changes the logits but no tensor's shape.
    model = tiny_model()
    given = {'width': 32, 'frames': 4, 'tokens': 6, 'classes': 3}
    model.heads['verb'] = create_head('step', **given, attention_heads=4)
    with pytest.raises(ValueError, match=r'same kind, options and frames.*attention_heads'):
        save_tiny_bundle(tmp_path, model)
    assert not list(tmp_path.iterdir())


def test_heads_from_outside_the_registry_are_refused(tiny_model, save_tiny_bundle, tmp_path):
    model = tiny_model()
    for task, head in model.heads.items():
        model.heads[task] = StepHead(width=32, frames=4, classes=head.classes)
    with pytest.raises(ValueError, match='made by `create_head`'):
        save_tiny_bundle(tmp_path, model)


@pytest.mark.parametrize('task', ['fine verb', 'verb.fine', 'keys', 'type', 'training'])
def test_unusual_task_name_works_or_is_refused(task, copy, clips):
    # Both are fine, but torch must accept every name that the schema accepts.
    copy.edit('tasks.0.name', task)
    tensors = load_file(copy.folder / HEADS)
    save_file({re.sub('^action', task, key): v for key, v in tensors.items()}, copy.folder / HEADS)
    copy.edit('heads.digest', file_digest(copy.folder / HEADS))
    try:
        bundle = load_bundle(copy.folder)
    except BundleError as error:
        refused = (error.path.name, error.field)
    else:
        assert task in logits_of(bundle.model, clips)
        return
    assert refused == (SPEC, 'tasks.0.name')


# ---- identity


def test_model_id_is_the_name_and_a_digest(tiny_bundle):
    assert re.fullmatch(r'tiny@[0-9a-f]{12}', tiny_bundle.model_id)
    assert tiny_bundle.model_id == model_id(tiny_bundle.spec)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('description', 'another'),
        ('license', 'MIT'),
        ('provenance', {'seed': 2}),
        ('metrics', {'top1': 1.0}),
    ],
)
def test_model_id_ignores_descriptive_fields(field, value, copy, tiny_bundle):
    copy.edit(field, value)
    assert load_bundle(copy.folder).model_id == tiny_bundle.model_id


def test_model_id_keeps_its_digest_under_another_name(copy, tiny_bundle):
    copy.edit('name', 'other')
    name, digest = load_bundle(copy.folder).model_id.split('@')
    assert name == 'other'
    assert digest == tiny_bundle.model_id.split('@')[1]


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('frame_period', 0.2),
        ('image.mean', [0.1, 0.2, 0.3]),
        ('backbone.token_grid', [1, 3]),
        ('tasks.0.labels.0', 'rest'),
        ('tasks.0.temperature', 2.0),
        ('heads.options.attention_heads', 4),
    ],
)
def test_model_id_changes_with_fields_that_affect_scores(field, value, copy, tiny_bundle):
    copy.edit(field, value)
    assert load_bundle(copy.folder).model_id != tiny_bundle.model_id


@pytest.mark.parametrize(
    ('name', 'tensor'), [(HEADS, 'verb.cls_d'), (BACKBONE, 'blocks.0.attn.qkv.bias')]
)
def test_model_id_changes_with_the_weights(name, tensor, copy, tiny_bundle):
    changed = load_file(copy.folder / name)[tensor]
    changed[0] += 1e-3
    copy.edit_tensors(name, **{tensor: changed})
    assert load_bundle(copy.folder).model_id != tiny_bundle.model_id


def test_random_weights_follow_the_seed_of_the_bundle(
    tiny_model, save_tiny_bundle, tmp_path, clips, bundle_at
):
    bundle = save_tiny_bundle(tmp_path, tiny_model(), backbone_weights='random')
    assert bundle.spec.backbone.digest == 'random:0'
    other = bundle_at(tmp_path)
    other.edit('backbone.digest', 'random:1')
    reseeded = load_bundle(tmp_path)
    assert reseeded.model_id != bundle.model_id
    one, another = logits_of(bundle.model, clips), logits_of(reseeded.model, clips)
    assert not torch.allclose(one['action'], another['action'], atol=1e-3)


# ---- heads


def test_create_heads_makes_a_head_for_each_task(tiny_bundle):
    spec = HeadsSpec(options={'attention_heads': 4, 'positions': 'none'}, digest=NO_DIGEST)
    heads = create_heads(spec, tiny_bundle.spec.tasks, width=32, frames=7, tokens=6)
    assert [(task, head.classes) for task, head in heads.items()] == [
        ('action', 5),
        ('verb', 3),
        ('object', 4),
    ]
    for head in heads.values():
        assert head.positions is None
        assert (head.frames, head.width, head.block.attention.attention_heads) == (7, 32, 4)
    with pytest.raises(ValueError, match='attention_heads=4 does not divide width=30'):
        create_heads(spec, tiny_bundle.spec.tasks, width=30, frames=7, tokens=6)

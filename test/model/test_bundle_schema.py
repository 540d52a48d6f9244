# SPDX-License-Identifier: Apache-2.0
"""Fields of `bundle.yaml`: errors name fields that are invalid or contradict others."""

import re
import shutil

import pytest

from step_ros.model.bundle import read_spec

NO_DIGEST = 'sha256:' + 64 * '0'
BACKBONE, SPEC = 'backbone.safetensors', 'bundle.yaml'


# ---- fields


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        pytest.param('colour', 'green', id='unknown key'),
        pytest.param('image.colour', 'green', id='unknown key of the image'),
        pytest.param('backbone.colour', 'green', id='unknown key of the backbone'),
        pytest.param('heads.dropout', 0.1, id='unknown key of the heads'),
        pytest.param('tasks.1.colour', 'green', id='unknown key of a task'),
        *(
            pytest.param(field, ..., id=f'{field} is missing')
            for field in (
                'name',
                'frames',
                'frame_period',
                'image',
                'image.height',
                'image.mean',
                'image.std',
                'backbone',
                'backbone.name',
                'backbone.weights',
                'backbone.digest',
                'heads',
                'heads.digest',
                'tasks',
                'tasks.2.name',
                'tasks.2.labels',
            )
        ),
        ('format', 2),
        ('format', 0),
        ('format', 'one'),
        ('name', 4),
        ('name', ''),
        ('name', '../tiny'),
        ('frames', 'four'),
        ('frames', 4.5),
        ('frames', 0),
        ('frames', None),
        ('frames', [4]),
        ('frame_period', 'fast'),
        ('frame_period', 0),
        ('frame_period', -0.1),
        ('frame_period', float('nan')),
        ('frame_period', float('inf')),
        ('image', 224),
        ('image.height', 0),
        ('image.width', 'wide'),
        ('image.mean', [0.5, 0.5]),
        ('image.mean', 0.5),
        ('image.mean', [0.5, 0.5, float('nan')]),
        ('image.std', [0.5, 0.5, 0.5, 0.5]),
        ('image.std', [0.5, 0.5, 0.0]),
        ('image.std', [0.5, 0.5, float('inf')]),
        ('backbone', 'vit_tiny_patch16_224'),
        ('backbone.name', ''),
        ('backbone.arguments', [1]),
        ('backbone.weights', 7),
        ('backbone.token_grid', [2]),
        ('backbone.token_grid', [0, 1]),
        ('backbone.token_grid', '1x3'),
        ('backbone.token_grid', [2, 2]),
        ('heads.options', 'few'),
        ('heads.weights', 'other.safetensors'),
        ('heads.digest', 'none'),
        ('heads.digest', 'sha256:12'),
        ('tasks', []),
        ('tasks', 'action'),
        ('tasks.0', 'action'),
        ('tasks.0.name', ''),
        ('tasks.0.labels', 'idle'),
        ('tasks.0.labels', ['idle']),
        ('tasks.0.labels.1', False),
        ('tasks.0.labels.1', 3),
        ('tasks.0.counterparts', ['open', 'close']),
        ('tasks.0.temperature', 0),
        ('tasks.0.temperature', 'hot'),
        ('tasks.0.temperature', float('inf')),
        ('provenance', 'unknown'),
        ('metrics', 0.5),
    ],
)
def test_invalid_field_is_named(field, value, copy):
    copy.edit(field, value)
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert re.match(re.escape(field) + r'(\.|$)', error.field)
    assert str(error).startswith(f'{copy.folder / SPEC}: {error.field}: ')


@pytest.mark.parametrize(
    ('field', 'value', 'where', 'message'),
    [
        ('tasks.0.counterparts.open', 'shut', 'tasks.0', "counterpart 'shut' is not a label"),
        ('tasks.0.counterparts.shut', 'open', 'tasks.0', "counterpart 'shut' is not a label"),
        (
            'tasks.0.counterparts.close',
            ...,
            'tasks.0',
            "'open' -> 'close' needs 'close' -> 'open'",
        ),
        ('tasks.0.counterparts.close', 'idle', 'tasks.0', 'must go both ways'),
        ('tasks.0.counterparts.idle', 'idle', 'tasks.0', "'idle' -> 'idle'"),
        ('tasks.0.labels.1', 'idle', 'tasks.0', 'repeat'),
        ('tasks.1.labels.0', '', 'tasks.1', 'empty'),
        ('tasks.1.labels.0', 'pick\x1b[2Jup', 'tasks.1', 'not printable'),
        ('tasks.1.name', 'action', '', "task names repeat: ['action', 'action', 'object']"),
        ('backbone.weights', 'weights.pth', 'backbone', "'weights.pth'"),
        ('backbone.weights', 'random', 'backbone', 'random:SEED'),
        ('backbone.digest', 'random:0', 'backbone', 'expected sha256:'),
        ('backbone.digest', 'md5:0', 'backbone', 'expected sha256:'),
    ],
)
def test_contradicting_fields_are_named(field, value, where, message, copy):
    copy.edit(field, value)
    error = copy.error()
    assert (error.path, error.field) == (copy.folder / SPEC, where)
    assert message in str(error)


def test_several_invalid_fields_are_counted(copy):
    copy.edit('frames', 0)
    copy.edit('frame_period', 0)
    copy.edit('colour', 'green')
    error = copy.error()
    assert 'frames' in error.field
    assert 'found 0' in str(error)
    assert '(and 2 more)' in str(error)


@pytest.mark.parametrize('weights', ['../other.safetensors', '/tmp/other.safetensors'])
def test_backbone_weights_outside_the_bundle_are_refused(weights, copy, tmp_path):
    shutil.copy(copy.folder / BACKBONE, tmp_path / 'other.safetensors')
    copy.edit('backbone.weights', weights.replace('/tmp', str(tmp_path)))
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert error.field.startswith('backbone')


# ---- heads and backbone


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('heads.name', 'stepp', "head 'stepp' is unknown; expected one of step, linear, at"),
        ('heads.options.attention_heads', 3, 'attention_heads=3 does not divide width=32'),
        ('heads.options.attention_heads', 0, 'attention_heads=0 does not divide width=32'),
        ('heads.options.attention_heads', 'two', "attention_heads='two' does not divide"),
        ('heads.options.attention_heads', True, 'attention_heads=True does not divide'),
        ('heads.options.positions', 'sine', "'sine': expected one of learnable, fixed, hybrid"),
        ('heads.options.heads', 2, "no option 'heads'; its options and their defaults are"),
    ],
)
def test_unknown_head_is_refused_with_the_valid_ones(copy, field, value, message):
    copy.edit(field, value)
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert field.startswith(error.field)
    assert message in str(error)


def test_attention_heads_must_divide_the_width(copy):
    copy.edit('heads.options.attention_heads', 3)
    error = copy.error()
    assert (error.path, error.field) == (copy.folder / SPEC, 'heads.options')
    assert 'attention_heads=3 does not divide width=32' in str(error)


@pytest.mark.parametrize('weights', [BACKBONE, 'random'])
@pytest.mark.parametrize(('side', 'pixels'), [('height', 33), ('width', 50), ('height', 8)])
def test_image_that_patches_do_not_fill_is_refused(side, pixels, weights, copy):
    if weights == 'random':
        copy.edit('backbone.weights', 'random')
        copy.edit('backbone.digest', 'random:0')
    copy.edit(f'image.{side}', pixels)
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert re.search(rf'\b{pixels}\b', str(error).replace(str(copy.folder), ''))


@pytest.mark.parametrize('weights', [BACKBONE, 'random'])
@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('no_such_backbone', 'unknown'),
        ('vit_tiny_patch16_224.no_such_weights', 'no_such_weights'),
        ('resnet18', 'resnet18'),
    ],
)
def test_unknown_backbone_is_refused(name, message, weights, copy):
    copy.edit('backbone.weights', weights)
    copy.edit('backbone.digest', 'random:0' if weights == 'random' else NO_DIGEST)
    copy.edit('backbone.name', name)
    copy.edit('backbone.arguments', {})
    if weights != 'random':
        copy.write(BACKBONE, (copy.folder / BACKBONE).read_bytes())
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert error.field.startswith('backbone')
    assert message in str(error)


@pytest.mark.parametrize(
    'arguments',
    [
        {'embed_dim': 48},
        {'num_heads': 3},
        {'depth': 2},
        {'depth': 0},
        {'colour': 'green'},
        {'global_pool': 'avg'},
        {'depth': 'deep'},
        {'embed_dim': -1},
    ],
)
def test_invalid_backbone_arguments_are_refused(arguments, copy):
    given = read_spec(copy.folder).backbone.arguments
    copy.edit('backbone.arguments', {**given, **arguments})
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert error.field.startswith('backbone')

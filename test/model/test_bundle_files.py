# SPDX-License-Identifier: Apache-2.0
"""Files of a bundle: the loader notices damage and names it."""

import os

import pytest
import torch
from safetensors.torch import load_file

from step_ros.model.bundle import BundleError, load_bundle
from step_ros.model.weights import file_digest

HEADS, BACKBONE, SPEC = 'heads.safetensors', 'backbone.safetensors', 'bundle.yaml'


# ---- files


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(BundleError, match=r'nowhere: no such folder.*bundle\.yaml') as caught:
        load_bundle(tmp_path / 'nowhere')
    assert caught.value.path == tmp_path / 'nowhere'


def test_file_in_place_of_the_folder_is_refused(copy):
    with pytest.raises(BundleError, match=r'bundle\.yaml: no such folder'):
        load_bundle(copy.folder / SPEC)


@pytest.mark.parametrize('name', [SPEC, HEADS, BACKBONE])
@pytest.mark.parametrize('by_a_folder', [False, True])
def test_missing_file_is_named(name, by_a_folder, copy):
    (copy.folder / name).unlink()
    if by_a_folder:
        (copy.folder / name).mkdir()
    error = copy.error()
    assert str(copy.folder / name) in str(error)
    assert 'no such file' in str(error) or 'do not exist' in str(error)


@pytest.mark.parametrize(
    'content',
    [
        pytest.param(b'name: [tiny', id='broken'),
        pytest.param(b'name: tiny\n\tframes: 4', id='tab'),
        pytest.param(b'\xff\xfe\x00name', id='not text'),
        pytest.param(b'name: \x00', id='control character'),
        pytest.param(b'!!python/object/apply:os.mkdir [pwned]', id='python object'),
    ],
)
def test_invalid_yaml_is_refused(content, copy, monkeypatch):
    monkeypatch.chdir(copy.folder)
    (copy.folder / SPEC).write_bytes(content)
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert 'not readable as YAML' in str(error)
    assert 'pwned' not in os.listdir()


def test_yaml_aliases_that_multiply_are_refused(copy):
    lines = ['a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]']
    for level in range(1, 10):
        lines.append(f'a{level}: &a{level} [' + ', '.join([f'*a{level - 1}'] * 10) + ']')
    (copy.folder / SPEC).write_text('\n'.join([*lines, 'name: *a9']))
    assert 'more than 100000 values' in str(copy.error())


def test_yaml_node_that_contains_itself_is_refused(copy):
    (copy.folder / SPEC).write_text('name: &a [*a, *a]')
    assert 'more than 100000 values' in str(copy.error())


def test_very_deep_or_long_yaml_is_refused(copy):
    (copy.folder / SPEC).write_text('name: ' + '[' * 5000)
    assert 'not readable as YAML' in str(copy.error())
    (copy.folder / SPEC).write_text('#' * (1 << 20) + '\n')
    assert 'larger than 1048576 bytes' in str(copy.error())


def test_yaml_alias_is_accepted(copy):
    copy.edit('provenance', {'seeds': (seeds := [1, 2]), 'again': seeds})
    assert '*' in (copy.folder / SPEC).read_text()
    assert load_bundle(copy.folder).spec.provenance['again'] == [1, 2]


@pytest.mark.parametrize(
    ('content', 'found'),
    [('', 'NoneType'), ('- name: tiny', 'list'), ('tiny', 'str'), ('4', 'int')],
)
def test_yaml_without_a_mapping_is_refused(content, found, copy):
    (copy.folder / SPEC).write_text(content)
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert f'expected a mapping, found {found}' in str(error)


# ---- weights


@pytest.mark.parametrize('name', [HEADS, BACKBONE])
def test_changed_weight_file_is_refused(name, copy):
    path = copy.folder / name
    expected, data = file_digest(path), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    error = copy.error()
    assert error.field in ('heads.digest', 'backbone.digest', 'backbone.weights')
    for part in (str(path), expected, file_digest(path)):
        assert part in str(error)


@pytest.mark.parametrize('name', [HEADS, BACKBONE])
@pytest.mark.parametrize('kept', [0, 4, 200, -8])
def test_truncated_weights_with_valid_digest_are_refused(name, kept, copy):
    copy.write(name, (copy.folder / name).read_bytes()[:kept])
    assert str(copy.folder / name) in str(copy.error())


HEAD_TENSOR, BACKBONE_TENSOR = 'verb.block.attention.out.weight', 'blocks.0.attn.proj.weight'


@pytest.mark.parametrize(
    ('name', 'tensor', 'value', 'message'),
    [
        pytest.param(HEADS, HEAD_TENSOR, None, 'missing', id='missing'),
        pytest.param(HEADS, 'verb.positions.learned_td', None, 'missing', id='positions missing'),
        pytest.param(HEADS, 'tool.cls_d', torch.zeros(32), 'no task', id='of no task'),
        pytest.param(HEADS, 'verb.extra', torch.zeros(1), 'no task', id='extra'),
        pytest.param(HEADS, HEAD_TENSOR, torch.zeros(32, 31), '[32, 31]', id='shape'),
        pytest.param(HEADS, HEAD_TENSOR, torch.zeros(32 * 32), '[1024]', id='flat'),
        pytest.param(HEADS, HEAD_TENSOR, torch.full((32, 32), torch.nan), 'not finite', id='nan'),
        pytest.param(
            HEADS, HEAD_TENSOR, torch.full((32, 32), torch.inf), 'not finite', id='infinite'
        ),
        pytest.param(BACKBONE, BACKBONE_TENSOR, None, '', id='backbone, missing'),
        pytest.param(BACKBONE, 'extra.weight', torch.zeros(1), '', id='backbone, extra'),
        pytest.param(BACKBONE, BACKBONE_TENSOR, torch.zeros(32, 31), '', id='backbone, shape'),
        pytest.param(
            BACKBONE, BACKBONE_TENSOR, torch.full((32, 32), torch.nan), '', id='backbone, nan'
        ),
    ],
)
def test_wrong_tensor_is_named(name, tensor, value, message, copy):
    copy.edit_tensors(name, **{tensor: value})
    error = copy.error()
    assert str(copy.folder / name) in str(error)
    assert tensor in str(error)
    assert message in str(error)


def test_single_nan_is_found(copy):
    weight = load_file(copy.folder / HEADS)['object.classifier.bias']
    weight[-1] = torch.nan
    copy.edit_tensors(HEADS, **{'object.classifier.bias': weight})
    error = copy.error()
    assert (error.path, error.field) == (copy.folder / HEADS, 'object.classifier.bias')


@pytest.mark.parametrize(
    ('field', 'value', 'tensor'),
    [
        ('frames', 5, 'action.positions.learned_td'),
        ('tasks.1.name', 'deed', 'deed.block.attention.out.bias'),
        ('heads.options.positions', 'none', 'action.positions.learned_td'),
    ],
)
def test_heads_that_do_not_fit_the_spec_are_refused(field, value, tensor, copy):
    copy.edit(field, value)
    error = copy.error()
    assert (error.path, error.field) == (copy.folder / HEADS, tensor)


def test_label_without_an_output_is_refused(copy):
    labels = list(load_bundle(copy.folder).spec.tasks[0].labels)
    copy.edit('tasks.0.labels', [*labels, 'another'])
    error = copy.error()
    assert error.field == 'action.classifier.bias'
    assert 'shape [5]' in str(error)
    assert '[6]' in str(error)

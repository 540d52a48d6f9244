# SPDX-License-Identifier: Apache-2.0
"""An exported encoder is refused if it is damaged or was made from another backbone."""

import pytest
import torch
import yaml

from step_ros.encoders.exported import (
    SPEC_FILE,
    backbone_fingerprint,
    export_name,
    load_export,
    record_measured,
    save_export,
)
from step_ros.model.backbone import create_backbone
from step_ros.model.bundle import BundleError

pytestmark = pytest.mark.slow


@pytest.fixture
def backbone(tiny_model):
    return tiny_model().backbone


@pytest.fixture
def folder(tmp_path, backbone):
    (tmp_path / 'encoder.xml').write_text('<net/>')
    (tmp_path / 'encoder.bin').write_bytes(b'1234')
    save_export(tmp_path, backbone, runtime='openvino', precision='int8')
    return tmp_path


def edit(folder, **changes):
    path = folder / SPEC_FILE
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def test_saved_export_is_loaded(folder, backbone):
    exported = load_export(folder, backbone)
    assert exported.main_file == folder / 'encoder.xml'
    assert exported.spec.files.keys() == {'encoder.xml', 'encoder.bin'}
    assert exported.spec.backbone == backbone.name


def test_measured_figures_are_saved(folder, backbone):
    record_measured(load_export(folder, backbone), {'clips': 3})
    again = load_export(folder, backbone)
    assert again.spec.measured == {'clips': 3}


def test_variant_is_empty_for_float32_and_a_digest_for_int8(folder, backbone):
    first = load_export(folder, backbone)
    assert first.variant.startswith('int8:')
    (folder / 'encoder.bin').write_bytes(b'1235')
    (folder / SPEC_FILE).unlink()
    other = save_export(folder, backbone, runtime='openvino', precision='int8')
    assert other.variant not in ('', first.variant)
    assert save_export(folder, backbone, runtime='openvino').variant == ''


def test_export_name_is_runtime_and_precision():
    assert export_name('onnx', 'float32') == 'onnx'
    assert export_name('openvino', 'int8') == 'openvino-int8'


@pytest.mark.parametrize('difference', ['weights', 'mean', 'tokens', 'token grid'])
def test_another_backbone_is_refused(difference, folder, backbone, tiny_model):
    other = tiny_model().backbone
    assert backbone_fingerprint(other) == backbone_fingerprint(backbone)
    if difference == 'weights':
        with torch.no_grad():
            other.vit.norm.weight[0] += 1e-3
    elif difference == 'mean':
        other.mean = (0.4, 0.5, 0.5)
    elif difference == 'token grid':
        other.average_onto((2, 1))
    else:
        other.give('all')
    with pytest.raises(BundleError, match=r'made from a backbone .* export it again'):
        load_export(folder, other)


def test_fingerprint_depends_on_the_shape_of_the_grid():
    backbone = create_backbone(
        'vit_tiny_patch16_224',
        weights='random',
        image_size=(32, 32),
        arguments={'embed_dim': 32, 'depth': 1, 'num_heads': 2},
    )
    row = backbone_fingerprint(backbone.average_onto((1, 2)))
    assert row != backbone_fingerprint(backbone.average_onto((2, 1)))


@pytest.mark.parametrize('name', ['encoder.xml', 'encoder.bin'])
def test_changed_file_is_refused(name, folder, backbone):
    (folder / name).write_bytes(b'other')
    with pytest.raises(BundleError, match=rf'{name}: its digest differs'):
        load_export(folder, backbone)


@pytest.mark.parametrize('name', ['encoder.xml', 'encoder.bin', SPEC_FILE])
def test_missing_file_is_refused(name, folder, backbone):
    (folder / name).unlink()
    with pytest.raises(BundleError, match='no such file'):
        load_export(folder, backbone)


@pytest.mark.parametrize(
    'changes',
    [
        {'format': 'tensorrt'},
        {'precision': 'int4'},
        {'fingerprint': 'random:0'},
        {'files': {}},
        {'speed': 'high'},
    ],
)
def test_invalid_spec_is_refused(changes, folder, backbone):
    edit(folder, **changes)
    with pytest.raises(BundleError, match='not an exported encoder'):
        load_export(folder, backbone)


def test_files_outside_the_folder_are_refused(folder, backbone):
    exported = load_export(folder, backbone)
    outside = {'../outside': 'sha256:' + 64 * '0'}
    edit(folder, files=exported.spec.files | outside)
    with pytest.raises(BundleError, match='outside'):
        load_export(folder, backbone)

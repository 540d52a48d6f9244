"""An exported encoder is whole, and of this backbone, or it is refused."""

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


def test_what_was_saved_is_loaded(folder, backbone):
    exported = load_export(folder, backbone)
    assert exported.main_file == folder / 'encoder.xml'
    assert exported.spec.files.keys() == {'encoder.xml', 'encoder.bin'}
    assert exported.spec.backbone == backbone.name


def test_what_was_measured_is_kept(folder, backbone):
    record_measured(load_export(folder, backbone), {'clips': 3})
    again = load_export(folder, backbone)
    assert again.spec.measured == {'clips': 3}


def test_an_exact_one_has_no_name_of_its_own_and_int8_goes_by_its_files(folder, backbone):
    first = load_export(folder, backbone)
    assert first.variant.startswith('int8:')
    (folder / 'encoder.bin').write_bytes(b'1235')
    (folder / SPEC_FILE).unlink()
    other = save_export(folder, backbone, runtime='openvino', precision='int8')
    assert other.variant not in ('', first.variant)
    assert save_export(folder, backbone, runtime='openvino').variant == ''


def test_names():
    assert export_name('onnx', 'float32') == 'onnx'
    assert export_name('openvino', 'int8') == 'openvino-int8'


@pytest.mark.parametrize('what', ['weights', 'mean', 'tokens', 'token grid'])
def test_another_backbone_is_refused(what, folder, backbone, tiny_model):
    other = tiny_model().backbone
    assert backbone_fingerprint(other) == backbone_fingerprint(backbone)
    if what == 'weights':
        with torch.no_grad():
            other.vit.norm.weight[0] += 1e-3
    elif what == 'mean':
        other.mean = (0.4, 0.5, 0.5)
    elif what == 'token grid':
        other.average_onto((2, 1))
    else:
        other.give('all')
    with pytest.raises(BundleError, match=r'made from a backbone .* export it anew'):
        load_export(folder, other)


def test_grids_of_as_many_tokens_are_told_apart():
    backbone = create_backbone(
        'vit_tiny_patch16_224',
        weights='random',
        image_size=(32, 32),
        arguments={'embed_dim': 32, 'depth': 1, 'num_heads': 2},
    )
    row = backbone_fingerprint(backbone.average_onto((1, 2)))
    assert row != backbone_fingerprint(backbone.average_onto((2, 1)))


@pytest.mark.parametrize('name', ['encoder.xml', 'encoder.bin'])
def test_an_altered_file_is_refused(name, folder, backbone):
    (folder / name).write_bytes(b'other')
    with pytest.raises(BundleError, match=rf'{name}: its digest is not'):
        load_export(folder, backbone)


@pytest.mark.parametrize('name', ['encoder.xml', 'encoder.bin', SPEC_FILE])
def test_a_missing_file_is_refused(name, folder, backbone):
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
def test_a_spec_that_breaks_the_schema_is_refused(changes, folder, backbone):
    edit(folder, **changes)
    with pytest.raises(BundleError, match='not an exported encoder'):
        load_export(folder, backbone)


def test_files_elsewhere_are_refused(folder, backbone):
    exported = load_export(folder, backbone)
    outside = {'../outside': 'sha256:' + 64 * '0'}
    edit(folder, files=exported.spec.files | outside)
    with pytest.raises(BundleError, match='outside'):
        load_export(folder, backbone)

# SPDX-License-Identifier: Apache-2.0
"""Export of a bundle's encoder: exact, in int8, and what it refuses to overwrite."""

import numpy as np
import pytest
import torch

from step_ros.encoders.base import TorchEncoder
from step_ros.encoders.exported import load_export
from step_ros.encoders.factory import TOLERANCES, create_encoder
from step_ros.io.video import VideoError, VideoWriter
from step_ros.model.bundle import BundleError
from step_ros.training.calibration import Calibration, predicts_tabletop_tasks
from step_ros.training.export import export_bundle

pytestmark = pytest.mark.slow

CPU = torch.device('cpu')


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / 'videos'
    folder.mkdir()
    random = np.random.default_rng(0)
    with VideoWriter(folder / 'noise.mp4', size=(48, 32), rate=10.0, quality=5) as writer:
        for index in range(12):
            image = random.integers(0, 256, (32, 48, 3), dtype=np.uint8)
            writer.write(image, index * 100_000_000)
    return folder


@pytest.fixture
def images():
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(4)]


def difference(encoder, backbone, images):
    """Return the largest difference from torch as a share of the largest token value."""
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    return float((encoder.encode(images) - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    ('runtime', 'module', 'files'),
    [
        ('openvino', 'openvino', {'encoder.xml', 'encoder.bin'}),
        ('onnx', 'onnxscript', {'encoder.onnx', 'heads.onnx'}),
    ],
)
def test_an_exact_export_runs_and_equals_torch(
    runtime, module, files, tiny_bundle, images, tmp_path
):
    pytest.importorskip(module, reason=f'{module} is not installed')
    exported = export_bundle(tiny_bundle, tmp_path / 'out' / 'exact', runtime=runtime)
    assert set(exported.spec.files) == files
    assert 'torch' in exported.spec.made_with
    assert [path.name for path in exported.path.parent.iterdir()] == ['exact']
    backbone = tiny_bundle.model.backbone
    encoder = create_encoder(backbone, runtime=str(exported.path))
    assert (encoder.runtime, encoder.variant) == (runtime, '')
    assert difference(encoder, backbone, images) <= TOLERANCES['float32']


def test_int8_is_close_to_torch_and_names_its_variant(tiny_bundle, videos, images, tmp_path):
    pytest.importorskip('nncf', reason='NNCF is not installed')
    exported = export_bundle(
        tiny_bundle,
        tmp_path / 'int8',
        runtime='openvino',
        calibration=Calibration(folder=videos, frames=10),
    )
    assert exported.spec.precision == 'int8'
    assert exported.spec.calibration == {'source': 'videos', 'frames': 10}
    backbone = tiny_bundle.model.backbone
    encoder = create_encoder(backbone, runtime=str(exported.path))
    assert encoder.precision == 'int8'
    assert encoder.variant == exported.variant
    assert encoder.variant in encoder.description
    assert TOLERANCES['float32'] < difference(encoder, backbone, images) < 0.2
    with pytest.raises(ValueError, match='is int8; use auto'):
        create_encoder(backbone, runtime=str(exported.path), precision='bfloat16')


def test_an_export_replaces_only_an_earlier_export(tiny_bundle, tmp_path):
    pytest.importorskip('openvino', reason='OpenVINO is not installed')
    folder = tmp_path / 'exact'
    export_bundle(tiny_bundle, folder, runtime='openvino')
    (folder / 'encoder.onnx').write_text('of another format')
    export_bundle(tiny_bundle, folder, runtime='openvino')
    assert not (folder / 'encoder.onnx').exists()
    assert load_export(folder, tiny_bundle.model.backbone).spec.precision == 'float32'
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'thesis.txt').write_text('')
    with pytest.raises(
        BundleError, match=r'expected an empty folder or an earlier export; it holds thesis\.txt'
    ):
        export_bundle(tiny_bundle, other, runtime='openvino')
    assert [path.name for path in other.iterdir()] == ['thesis.txt']


def test_wrong_arguments_are_refused_before_writing(tiny_bundle, tmp_path):
    folder = tmp_path / 'out'
    calibration = Calibration(frames=1)
    with pytest.raises(ValueError, match="format='tensorrt': expected one of openvino, onnx"):
        export_bundle(tiny_bundle, folder, runtime='tensorrt')
    with pytest.raises(ValueError, match='int8 is made for openvino alone'):
        export_bundle(tiny_bundle, folder, runtime='onnx', calibration=calibration)
    with pytest.raises(ValueError, match='its tasks are not those of the tabletop'):
        calibration.images(tiny_bundle)
    with pytest.raises(VideoError, match='expected a folder with videos'):
        Calibration(folder=tmp_path).images(tiny_bundle)
    assert not folder.exists()
    assert not predicts_tabletop_tasks(tiny_bundle)

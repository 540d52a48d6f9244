# SPDX-License-Identifier: Apache-2.0
"""Choice of the runtime: the requested one, or torch with a reason."""

import importlib.util
import logging
import sys

import numpy as np
import pytest
import torch

from step_ros.encoders.base import EncoderError, TorchEncoder
from step_ros.encoders.factory import INT8, TOLERANCES, check_tokens, create_encoder, milliseconds
from step_ros.model.backbone import Backbone
from step_ros.model.bundle import BundleError
from step_ros.reporting.installation import how_to_install

pytestmark = pytest.mark.slow

CPU = torch.device('cpu')


def requires(*modules):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f'not installed: {", ".join(missing)}')


OPENVINO = requires('openvino')
ONNX = requires('onnxruntime', 'onnxscript')


class MoodyBackbone(Backbone):
    """A backbone whose operations depend on the image, so that a conversion of it is wrong."""

    def forward(self, x_b3hw):
        return super().forward(x_b3hw) * float(x_b3hw[0, 0, 0, 0])


@pytest.fixture
def backbone(tiny_model):
    return tiny_model().backbone


@pytest.fixture
def moody(backbone):
    return MoodyBackbone(backbone.vit, name=backbone.name, digest=backbone.digest)


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (60, 80, 3), dtype=np.uint8) for _ in range(3)]


@pytest.mark.parametrize(
    ('runtime', 'precision', 'description'),
    [
        ('torch', 'auto', 'torch on cpu, float32, traced'),
        ('torch', 'bfloat16', 'torch on cpu, bfloat16, traced'),
        pytest.param('openvino', 'auto', 'OpenVINO', marks=OPENVINO),
        pytest.param('openvino', 'bfloat16', 'bfloat16', marks=OPENVINO),
        pytest.param('onnx', 'auto', 'ONNX Runtime', marks=ONNX),
    ],
)
def test_each_runtime_agrees_with_torch(runtime, precision, description, backbone, images):
    encoder = create_encoder(backbone, runtime=runtime, device='cpu', precision=precision)
    assert encoder.runtime == runtime
    assert description in encoder.description
    assert encoder.variant == ''
    assert encoder.precision == ('float32' if precision == 'auto' else precision)
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    difference = float((encoder.encode(images) - expected).abs().max() / expected.abs().max())
    assert difference <= TOLERANCES[encoder.precision]


@OPENVINO
def test_auto_on_cpu_names_the_faster_runtime_and_times(backbone):
    encoder = create_encoder(backbone, device='cpu')
    assert encoder.runtime in ('torch', 'openvino')
    assert 'auto: ' in encoder.description
    assert encoder.description.count(' ms per image') == 1
    assert 'torch on cpu' in encoder.description
    assert 'OpenVINO' in encoder.description


def test_auto_without_openvino_does_not_warn(backbone, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    encoder = create_encoder(backbone, device='cpu')
    assert encoder.runtime == 'torch'
    assert how_to_install('openvino') in encoder.description
    assert not caplog.records


@OPENVINO
def test_auto_skips_openvino_with_wrong_tokens(moody, caplog):
    encoder = create_encoder(moody, device='cpu')
    assert encoder.runtime == 'torch'
    assert 'OpenVINO is not available' in encoder.description


@pytest.mark.parametrize(
    ('runtime', 'module', 'extra'),
    [('openvino', 'openvino', 'openvino'), ('onnx', 'onnxscript', 'onnx')],
)
def test_missing_runtime_falls_back_to_torch_with_a_warning(
    runtime, module, extra, backbone, images, monkeypatch, caplog
):
    monkeypatch.setitem(sys.modules, module, None)
    encoder = create_encoder(backbone, runtime=runtime)
    assert encoder.runtime == 'torch'
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert 'failed to start; falling back to torch on cpu' in record.getMessage()
    for text in (record.getMessage(), encoder.description):
        assert runtime in text
        assert how_to_install(extra) in text
    torch.testing.assert_close(
        encoder.encode(images), TorchEncoder(backbone, device=CPU).encode(images)
    )


@OPENVINO
def test_runtime_with_wrong_tokens_falls_back_to_torch(moody, images, caplog):
    encoder = create_encoder(moody, runtime='openvino')
    assert encoder.runtime == 'torch'
    assert 'differ from torch in float32' in caplog.text
    torch.testing.assert_close(
        encoder.encode(images), TorchEncoder(moody, device=CPU).encode(images)
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason='torch finds no CUDA device')
@pytest.mark.parametrize('runtime', ['auto', 'torch'])
def test_torch_runs_on_cuda_if_available(runtime, backbone, images):
    encoder = create_encoder(backbone, runtime=runtime)
    assert (encoder.runtime, encoder.device.type) == ('torch', 'cuda')
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    found = encoder.encode(images).cpu()
    assert (found - expected).abs().max() <= TOLERANCES[encoder.precision] * expected.abs().max()


# ---- exported encoders


@pytest.fixture
def exported(backbone, tmp_path):
    openvino = pytest.importorskip('openvino', reason='OpenVINO is not installed')
    from step_ros.encoders.exported import save_export
    from step_ros.encoders.openvino import convert_backbone

    folder = tmp_path / 'exports' / INT8
    folder.mkdir(parents=True)
    openvino.save_model(convert_backbone(backbone), folder / 'encoder.xml', compress_to_fp16=False)
    return save_export(folder, backbone, runtime='openvino')


def test_exported_encoder_starts_from_its_folder(exported, backbone, images):
    encoder = create_encoder(backbone, runtime=str(exported.path))
    assert encoder.runtime == 'openvino'
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    difference = float((encoder.encode(images) - expected).abs().max() / expected.abs().max())
    assert difference <= TOLERANCES['float32']


def test_exported_encoder_of_a_bundle_starts_by_its_name(exported, backbone):
    encoder = create_encoder(backbone, runtime=INT8, bundle=exported.path.parents[1])
    assert encoder.runtime == 'openvino'


def test_export_of_another_backbone_is_an_error(exported, moody, backbone):
    with torch.no_grad():
        backbone.vit.norm.bias[0] += 1
    with pytest.raises(BundleError, match='made from a backbone'):
        create_encoder(backbone, runtime=str(exported.path))


def test_missing_export_error_names_the_command(backbone, tmp_path):
    with pytest.raises(BundleError, match='step_ros bundle export'):
        create_encoder(backbone, runtime=INT8, bundle=tmp_path)


# ---- wrong values


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'runtime': 'foo'}, r"runtime 'foo' is unknown; expected auto, torch, openvino"),
        ({'runtime': ''}, r"runtime '' is unknown"),
        ({'runtime': INT8}, 'needs a bundle with an exported encoder'),
        ({'device': 'gpu'}, "device 'gpu' is unknown"),
        ({'runtime': 'openvino', 'device': 'meta'}, "'meta' is not supported"),
        ({'precision': 'half'}, "precision 'half' is unknown"),
        ({'precision': 'int8'}, "precision 'int8' is unknown"),
        ({'runtime': 'onnx', 'precision': 'bfloat16'}, "not supported by runtime 'onnx'"),
        ({'runtime': 'torch', 'device': 'cpu', 'precision': 'float16'}, 'not supported'),
        ({'max_batch': 0}, 'max_batch=0'),
    ],
)
def test_invalid_value_is_refused(options, message, backbone):
    with pytest.raises(ValueError, match=message):
        create_encoder(backbone, **options)


# ---- the first image, and the time per image


class StuckEncoder:
    """An encoder that returns the same tokens for all images."""

    device = CPU
    runtime = 'torch'
    precision = 'float32'
    variant = ''
    description = ''

    def __init__(self, tokens_1nd):
        self._tokens_1nd = tokens_1nd

    def encode(self, images):
        return self._tokens_1nd


@pytest.mark.parametrize(
    ('tokens_1nd', 'message'),
    [
        (torch.full((1, 6, 32), float('nan')), 'not finite'),
        (torch.zeros(1, 5, 32), r'have shape \[1, 5, 32\]; expected \[1, 6, 32\]'),
        (torch.zeros(1, 6, 32), 'differ from torch in float32'),
    ],
)
def test_wrong_tokens_of_the_first_image_are_an_error(tokens_1nd, message, backbone):
    with pytest.raises(EncoderError, match=message):
        check_tokens(StuckEncoder(tokens_1nd), backbone)


def test_milliseconds_measures_each_encoder(backbone):
    quick = StuckEncoder(torch.zeros(1, 6, 32))
    slow = TorchEncoder(backbone, device=CPU)
    first, second = milliseconds([quick, slow], image_size=backbone.image_size)
    assert 0 < first < second
    # This encoder needs the same time for any batch: each image counts a share of it.
    (of_many,) = milliseconds([quick], image_size=backbone.image_size, batch=1000)
    assert of_many < first

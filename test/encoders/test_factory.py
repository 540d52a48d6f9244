"""Which runtime runs the encoder: what was asked for, or torch with a reason."""

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

CPU = torch.device('cpu')


def wants(*modules):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f'not installed: {", ".join(missing)}')


OPENVINO = wants('openvino')
ONNX = wants('onnxruntime', 'onnxscript')


class MoodyBackbone(Backbone):
    """A backbone whose operations depend on the image: what is converted of it is wrong."""

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
def test_each_agrees_with_torch(runtime, precision, description, backbone, images):
    encoder = create_encoder(backbone, runtime=runtime, device='cpu', precision=precision)
    assert encoder.runtime == runtime
    assert description in encoder.description
    assert encoder.variant == ''
    assert encoder.precision == ('float32' if precision == 'auto' else precision)
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    difference = float((encoder.encode(images) - expected).abs().max() / expected.abs().max())
    assert difference <= TOLERANCES[encoder.precision]


@OPENVINO
def test_auto_takes_the_faster_on_a_cpu_and_says_why(backbone):
    encoder = create_encoder(backbone, device='cpu')
    assert encoder.runtime in ('torch', 'openvino')
    assert 'auto: ' in encoder.description
    assert encoder.description.count(' ms an image') == 1
    assert 'torch on cpu' in encoder.description
    assert 'OpenVINO' in encoder.description


def test_auto_without_openvino_is_torch_without_a_warning(backbone, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    encoder = create_encoder(backbone, device='cpu')
    assert encoder.runtime == 'torch'
    assert "pip install 'step_ros[openvino]'" in encoder.description
    assert not caplog.records


@OPENVINO
def test_auto_does_not_take_what_is_wrong(moody, caplog):
    encoder = create_encoder(moody, device='cpu')
    assert encoder.runtime == 'torch'
    assert 'no OpenVINO here' in encoder.description


@pytest.mark.parametrize(
    ('runtime', 'module', 'extra'),
    [('openvino', 'openvino', 'openvino'), ('onnx', 'onnxscript', 'onnx')],
)
def test_a_runtime_that_is_not_installed_is_replaced_and_said(
    runtime, module, extra, backbone, images, monkeypatch, caplog
):
    monkeypatch.setitem(sys.modules, module, None)
    encoder = create_encoder(backbone, runtime=runtime)
    assert encoder.runtime == 'torch'
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for text in (record.getMessage(), encoder.description):
        assert runtime in text
        assert f"pip install 'step_ros[{extra}]'" in text
    torch.testing.assert_close(
        encoder.encode(images), TorchEncoder(backbone, device=CPU).encode(images)
    )


@OPENVINO
def test_a_runtime_whose_first_image_is_wrong_is_replaced_and_said(moody, images, caplog):
    encoder = create_encoder(moody, runtime='openvino')
    assert encoder.runtime == 'torch'
    assert 'differ from those of torch' in caplog.text
    torch.testing.assert_close(
        encoder.encode(images), TorchEncoder(moody, device=CPU).encode(images)
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason='torch finds no CUDA device')
@pytest.mark.parametrize('runtime', ['auto', 'torch'])
def test_torch_runs_on_cuda_where_there_is_one(runtime, backbone, images):
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


def test_an_exported_encoder_is_served_by_its_folder(exported, backbone, images):
    encoder = create_encoder(backbone, runtime=str(exported.path))
    assert encoder.runtime == 'openvino'
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    difference = float((encoder.encode(images) - expected).abs().max() / expected.abs().max())
    assert difference <= TOLERANCES['float32']


def test_what_lies_beside_the_bundle_is_served_by_its_name(exported, backbone):
    encoder = create_encoder(backbone, runtime=INT8, bundle=exported.path.parents[1])
    assert encoder.runtime == 'openvino'


def test_an_encoder_of_another_backbone_is_no_matter_of_falling_back(exported, moody, backbone):
    with torch.no_grad():
        backbone.vit.norm.bias[0] += 1
    with pytest.raises(BundleError, match='made from a backbone'):
        create_encoder(backbone, runtime=str(exported.path))


def test_nothing_exported_is_said_with_the_mend(backbone, tmp_path):
    with pytest.raises(BundleError, match='step_ros bundle export'):
        create_encoder(backbone, runtime=INT8, bundle=tmp_path)


# ---- wrong values


@pytest.mark.parametrize(
    ('options', 'why'),
    [
        ({'runtime': 'foo'}, r"runtime 'foo' is unknown; expected auto, torch, openvino"),
        ({'runtime': ''}, r"runtime '' is unknown"),
        ({'runtime': INT8}, 'goes with a bundle'),
        ({'device': 'gpu'}, "device 'gpu' is unknown"),
        ({'runtime': 'openvino', 'device': 'meta'}, "'meta' is not served"),
        ({'precision': 'half'}, "precision 'half' is unknown"),
        ({'precision': 'int8'}, "precision 'int8' is unknown"),
        ({'runtime': 'onnx', 'precision': 'bfloat16'}, "not offered by runtime 'onnx'"),
        ({'runtime': 'torch', 'device': 'cpu', 'precision': 'float16'}, 'not offered'),
        ({'max_batch': 0}, 'max_batch=0'),
    ],
)
def test_a_wrong_value_is_refused(options, why, backbone):
    with pytest.raises(ValueError, match=why):
        create_encoder(backbone, **options)


# ---- the first image, and how long one takes


class StuckEncoder:
    """An encoder of no use, of a real class's shape."""

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
    ('tokens_1nd', 'why'),
    [
        (torch.full((1, 6, 32), float('nan')), 'not finite'),
        (torch.zeros(1, 5, 32), r'not \[1, 6, 32\] but \[1, 5, 32\]'),
        (torch.zeros(1, 6, 32), 'differ from those of torch'),
    ],
)
def test_a_first_image_that_is_wrong_is_noticed(tokens_1nd, why, backbone):
    with pytest.raises(EncoderError, match=why):
        check_tokens(StuckEncoder(tokens_1nd), backbone)


def test_times_are_those_of_each_encoder(backbone):
    quick = StuckEncoder(torch.zeros(1, 6, 32))
    slow = TorchEncoder(backbone, device=CPU)
    first, second = milliseconds([quick, slow], image_size=backbone.image_size)
    assert 0 < first < second
    # It takes a batch of any size as long: each image a part of that.
    (of_many,) = milliseconds([quick], image_size=backbone.image_size, batch=1000)
    assert of_many < first

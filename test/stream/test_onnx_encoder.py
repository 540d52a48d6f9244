"""What is exported as ONNX says what torch says: the encoder, and the heads."""

import numpy as np
import pytest
import torch

from step_ros.model.head import tokens_per_frame
from step_ros.stream.encoder import TorchEncoder
from step_ros.stream.onnx_encoder import OnnxEncoder, export_encoder, export_heads
from step_ros.stream.runtimes import TOLERANCES

onnxruntime = pytest.importorskip('onnxruntime', reason='ONNX Runtime is not installed')
pytest.importorskip('onnxscript', reason='onnxscript is not installed')

CPU = torch.device('cpu')


@pytest.mark.parametrize('token_grid', [None, (2, 1)])
def test_tokens_are_those_of_torch(token_grid, tiny_model, tmp_path):
    backbone = tiny_model(token_grid=token_grid).backbone
    random = np.random.default_rng(0)
    shapes = [(32, 48), (480, 640), (20, 20), (32, 48), (32, 48)]
    images = [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    export_encoder(backbone, tmp_path / 'encoder.onnx')
    encoder = OnnxEncoder(tmp_path / 'encoder.onnx', max_batch=2)
    expected = TorchEncoder(backbone, device=CPU).encode(images)
    found = encoder.encode(images)
    assert found.shape == expected.shape
    difference = float((found - expected).abs().max() / expected.abs().max())
    assert difference <= TOLERANCES['float32']
    assert encoder.device == CPU


@pytest.mark.parametrize('head', ['step', 'attentive', 'fusion-tcn'])
def test_logits_are_those_of_the_heads(head, tiny_model, tmp_path):
    model = tiny_model(head=head, options=None if head == 'step' else {})
    backbone = model.backbone
    export_heads(model, tmp_path / 'heads.onnx', frames=4)
    session = onnxruntime.InferenceSession(
        tmp_path / 'heads.onnx', providers=['CPUExecutionProvider']
    )
    tokens = tokens_per_frame(backbone.consumed, backbone.tokens)
    for batch in (1, 3):
        x_btnd = torch.randn(batch, 4, tokens, backbone.width)
        found = session.run(list(model.tasks), {'windows': x_btnd.numpy()})
        with torch.inference_mode():
            expected = model.decide(x_btnd)
        for logits_bk, task in zip(found, model.tasks, strict=True):
            torch.testing.assert_close(
                torch.from_numpy(logits_bk), expected[task], rtol=1e-4, atol=1e-4
            )

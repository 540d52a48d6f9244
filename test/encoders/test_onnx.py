# SPDX-License-Identifier: Apache-2.0
"""The encoder and the heads exported as ONNX give the results of torch."""

import numpy as np
import pytest
import torch

from step_ros.encoders.base import TorchEncoder
from step_ros.encoders.factory import TOLERANCES
from step_ros.encoders.onnx import OnnxEncoder, export_encoder, export_heads
from step_ros.model.heads.registry import HEADS, create_head
from step_ros.model.multitask import MultiTaskModel
from step_ros.model.tokens import tokens_per_frame

pytestmark = pytest.mark.slow

onnxruntime = pytest.importorskip('onnxruntime', reason='ONNX Runtime is not installed')
pytest.importorskip('onnxscript', reason='onnxscript is not installed')

CPU = torch.device('cpu')


@pytest.mark.parametrize('token_grid', [None, (2, 1)])
def test_tokens_equal_torch(token_grid, tiny_model, tmp_path):
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


def test_logits_of_every_head_equal_torch(tiny_model, tmp_path):
    backbone = tiny_model().backbone
    sizes = {'width': backbone.width, 'frames': 4, 'tokens': backbone.tokens, 'classes': 5}
    heads = {name: create_head(name, **sizes) for name in HEADS}
    for kind in {head.consumes for head in heads.values()}:
        # All heads that consume the same tokens share a model, and so a file.
        model = MultiTaskModel(
            backbone, {name: head for name, head in heads.items() if head.consumes == kind}
        ).eval()
        export_heads(model, tmp_path / f'{kind}.onnx', frames=4)
        session = onnxruntime.InferenceSession(
            tmp_path / f'{kind}.onnx', providers=['CPUExecutionProvider']
        )
        for batch in (1, 3):
            tokens = tokens_per_frame(kind, backbone.tokens)
            x_btnd = torch.randn(batch, 4, tokens, backbone.width)
            found = session.run(list(model.tasks), {'windows': x_btnd.numpy()})
            with torch.inference_mode():
                expected = model.predict(x_btnd)
            for logits_bk, name in zip(found, model.tasks, strict=True):
                torch.testing.assert_close(
                    torch.from_numpy(logits_bk), expected[name], rtol=1e-4, atol=1e-4
                )

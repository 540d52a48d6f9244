# SPDX-License-Identifier: Apache-2.0
"""The encoder in ONNX Runtime, and the export of encoder and heads as ONNX files."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from step_ros.encoders.base import MAX_BATCH, BatchSplitter, PixelBackbone, Precision
from step_ros.images.resize import fit_images
from step_ros.model.backbone import Backbone
from step_ros.model.multitask import MultiTaskModel
from step_ros.model.tokens import tokens_per_frame

IMAGES, TOKENS, WINDOWS = 'images', 'tokens', 'windows'
# A protocol buffer holds at most 2 GiB; larger weights go into a file of their own.
_ONE_FILE_BYTES = 1 << 30


class OnnxEncoder:
    """The backbone in ONNX Runtime on the CPU, in float32.

    Args:
        path: A file of `export_encoder`.
        max_batch: Largest number of images in one pass; more images are split.

    Raises:
        ImportError: ONNX Runtime is not installed.
        RuntimeError: ONNX Runtime cannot load the file.
    """

    runtime = 'onnx'
    precision: Precision = 'float32'
    variant = ''

    def __init__(self, path: Path, *, max_batch: int = MAX_BATCH) -> None:
        import onnxruntime

        self.device = torch.device('cpu')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that wait by spinning would take CPU time from the heads.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        self._session: Any = onnxruntime.InferenceSession(
            path, options, providers=['CPUExecutionProvider']
        )
        _, height, width, _ = self._session.get_inputs()[0].shape
        self._size = (height, width)
        self._splitter = BatchSplitter(max_batch)
        self.description = f'ONNX Runtime {onnxruntime.__version__} on cpu, float32'

    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Encode images of any size, uint8 RGB `[h, w, 3]`, into float32 tokens `[b, n, d]`."""
        return self._splitter.encode(images, self._encode)

    def _encode(self, images: Sequence[np.ndarray]) -> Tensor:
        (tokens_bnd,) = self._session.run([TOKENS], {IMAGES: fit_images(images, self._size)})
        return torch.from_numpy(tokens_bnd)


class _TaskLogits(nn.Module):
    """The heads of a model as one module with one output per task."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self._heads = model.heads

    def forward(self, x_btnd: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of each task, `[b, k]`."""
        return tuple(head(x_btnd) for head in self._heads.values())


def export_encoder(backbone: Backbone, path: Path) -> None:
    """Write a backbone, with normalisation in front, as an ONNX file.

    The input is `images`, uint8 RGB `[b, h, w, 3]`; the output is `tokens`, float32 `[b, n, d]`.

    Args:
        backbone: The frozen encoder.
        path: The file; weights of more than 1 GiB go into a second file beside it.

    Raises:
        ImportError: The packages `onnx` and `onnxscript` are not installed.
    """
    pixels = PixelBackbone(backbone)
    _export(pixels, pixels.noise_images(2), path, inputs=[IMAGES], outputs=[TOKENS])


def export_heads(model: MultiTaskModel, path: Path, *, frames: int) -> None:
    """Write the heads of a model as one ONNX file.

    The input is `windows`, tokens of frames, oldest first, float32 `[b, t, n, d]`. The outputs are
    the logits `[b, k]` of each task, under the task's name.

    Args:
        model: The model with the heads.
        path: The file.
        frames: Frames in a window (T).

    Raises:
        ImportError: The packages `onnx` and `onnxscript` are not installed.
    """
    backbone = model.backbone
    tokens = tokens_per_frame(backbone.consumed, backbone.tokens)
    windows_btnd = torch.zeros(2, frames, tokens, backbone.width)
    heads = _TaskLogits(model).eval()
    _export(heads, windows_btnd, path, inputs=[WINDOWS], outputs=list(model.tasks))


def _export(
    module: nn.Module, example: Tensor, path: Path, *, inputs: list[str], outputs: list[str]
) -> None:
    import onnxscript  # noqa: F401  (torch's own message about a missing package is less clear)

    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)  # the exporter warns about torchvision, which is not used
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter('ignore')
            torch.onnx.export(
                module,
                (example,),
                path,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim('batch', min=1)},),
                dynamo=True,
                external_data=size > _ONE_FILE_BYTES,
                verbose=False,
            )
    finally:
        logger.setLevel(level)

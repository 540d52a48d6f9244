# SPDX-License-Identifier: Apache-2.0
"""The encoder in OpenVINO, which runs vision transformers on a CPU in half the time of torch."""

import sys
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from step_ros.encoders.base import PixelBackbone, Precision
from step_ros.images.resize import fit_images
from step_ros.model.backbone import Backbone

# OpenVINO's names of precisions. Without this hint it uses bfloat16 on a CPU that supports it.
_HINTS = {'float32': 'f32', 'bfloat16': 'bf16', 'int8': 'f32'}
# Batch sizes of a small model, largest first; each size holds the weights again. A larger model
# uses the CPU fully with one image, so batches gain nothing.
BATCH_SIZES = (4, 3, 2, 1)
# Largest weights of a small model.
SMALL_MODEL_BYTES = 32 * 2**20


def load_openvino() -> Any:
    """Import OpenVINO without its telemetry, so that a robot sends no usage data.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    if 'openvino' not in sys.modules:
        # None marks a module as missing; OpenVINO then runs without telemetry.
        sys.modules.setdefault('openvino_telemetry', cast('ModuleType', None))
    import openvino

    return openvino


@cache
def _core() -> Any:
    """Return the only core of this process, which is never destroyed.

    A core sets a signal stack for its thread. If cores are destroyed in another order than they
    were made, OpenVINO leaves the thread with a freed signal stack. The next signal, for example
    of Ctrl-C or of a child process that ends, then kills the process.
    """
    return load_openvino().Core()


class OpenVinoEncoder:
    """The backbone in OpenVINO on the CPU.

    Shapes are fixed, because dynamic shapes are slower. A large backbone encodes images one by
    one, which on a CPU is as fast as a batch. A small one encodes up to four images at once. The
    encoder uses as many threads as torch.

    Args:
        model: An `openvino.Model` from uint8 images `[1, h, w, 3]` to tokens; see
            `convert_backbone`.
        precision: Precision of its arithmetic; `int8` needs a quantised model.
        variant: Identifier of a quantised encoder; see `Encoder`.

    Raises:
        ImportError: OpenVINO is not installed.
        RuntimeError: OpenVINO cannot compile the model.
    """

    runtime = 'openvino'

    def __init__(self, model: Any, *, precision: Precision = 'float32', variant: str = '') -> None:
        self.device = torch.device('cpu')
        self.precision = precision
        self.variant = variant
        _, height, width, _ = (int(side) for side in model.input(0).shape)
        self._size = (height, width)
        openvino = load_openvino()
        settings = {
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_PRECISION_HINT': _HINTS[precision],
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
            # Heads and other programs of the robot need the CPU too.
            'ENABLE_CPU_PINNING': False,
        }
        sizes = BATCH_SIZES if _weight_bytes(model) <= SMALL_MODEL_BYTES else (1,)
        self._requests: dict[int, Any] = {}
        for size in sizes:
            sized = model.clone()
            sized.reshape([size, *self._size, 3])
            compiled = _core().compile_model(sized, 'CPU', settings)
            self._requests[size] = compiled.create_infer_request()
        self._shape = tuple(int(side) for side in compiled.output(0).shape[1:])
        release = openvino.__version__.partition('-')[0]
        self.description = f'OpenVINO {release} on cpu, {variant or precision}'

    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Encode images of any size, uint8 RGB `[h, w, 3]`, into float32 tokens `[b, n, d]`."""
        tokens_bnd = np.empty((len(images), *self._shape), dtype=np.float32)
        start = 0
        while start < len(images):
            left = len(images) - start
            size = next(each for each in self._requests if each <= left)
            batch = slice(start, start + size)
            fitted_bhw3 = fit_images(images[batch], self._size)
            outputs = self._requests[size].infer(
                {0: fitted_bhw3}, share_inputs=True, share_outputs=True
            )
            tokens_bnd[batch] = outputs[0]
            start += size
        return torch.from_numpy(tokens_bnd)


def _weight_bytes(model: Any) -> int:
    constants = (each for each in model.get_ops() if each.get_type_name() == 'Constant')
    return sum(constant.get_byte_size() for constant in constants)


def convert_backbone(backbone: Backbone) -> Any:
    """Convert a backbone, with normalisation in front, to an `openvino.Model` of one image.

    Raises:
        ImportError: OpenVINO is not installed.
        RuntimeError: OpenVINO cannot convert the backbone.
    """
    openvino = load_openvino()
    pixels = PixelBackbone(backbone)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')  # OpenVINO uses tracing, which torch deprecates
        model = openvino.convert_model(pixels, example_input=pixels.noise_images(1))
    model.reshape([1, *backbone.image_size, 3])
    return model


def read_model(path: Path) -> Any:
    """Read a converted backbone from its `.xml` file, with the `.bin` file beside it.

    Raises:
        ImportError: OpenVINO is not installed.
        RuntimeError: OpenVINO cannot read the file.
    """
    return _core().read_model(path)

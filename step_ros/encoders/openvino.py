"""The encoder by OpenVINO: on a CPU, vision transformers take it half the time of torch."""

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

# OpenVINO's names for what it computes with; it would else take bfloat16 where there is any.
_HINTS = {'float32': 'f32', 'bfloat16': 'bf16', 'int8': 'f32'}
# Images that are encoded at once, largest first, where the backbone's weights are few: each size
# holds them anew. More weights have enough to do with one image, and gain nothing.
_SIZES = (4, 3, 2, 1)
_FEW_BYTES = 32 * 2**20


def load_openvino() -> Any:
    """Import OpenVINO, without its telemetry: a robot reports to nobody.

    Raises:
        ImportError: It is not installed.
    """
    if 'openvino' not in sys.modules:
        # Python's way to say that a module is not there; OpenVINO then does without it.
        sys.modules.setdefault('openvino_telemetry', cast('ModuleType', None))
    import openvino

    return openvino


@cache
def _core() -> Any:
    """Return the one core of this process, which never ends.

    A core brings a signal stack for its thread. When cores end in another order than they began,
    OpenVINO leaves the thread with one that is no longer there, and the next signal, of Ctrl-C or
    of a child that ends, kills the process.
    """
    return load_openvino().Core()


class OpenVinoEncoder:
    """The backbone run by OpenVINO on the CPU.

    Shapes are fixed, for those that vary are slower. A large backbone encodes images one by one,
    which on a CPU is as fast as in a batch; a small one, up to four at once as well. It takes as
    many threads as torch.

    Args:
        model: An `openvino.Model` that takes uint8 images `[1, h, w, 3]`, and gives tokens; see
            `convert_backbone`.
        precision: Of what it computes; `int8` goes with a quantised model alone.
        variant: As in `Encoder`.

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
            # Heads and other programs of the robot want the processors, too.
            'ENABLE_CPU_PINNING': False,
        }
        sizes = _SIZES if _weight_bytes(model) <= _FEW_BYTES else (1,)
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
            part = slice(start, start + size)
            fitted_bhw3 = fit_images(images[part], self._size)
            found = self._requests[size].infer(
                {0: fitted_bhw3}, share_inputs=True, share_outputs=True
            )
            tokens_bnd[part] = found[0]
            start += size
        return torch.from_numpy(tokens_bnd)


def _weight_bytes(model: Any) -> int:
    constants = (each for each in model.get_ops() if each.get_type_name() == 'Constant')
    return sum(constant.get_byte_size() for constant in constants)


def convert_backbone(backbone: Backbone) -> Any:
    """Convert a backbone, with what is done to its pixels, to an `openvino.Model` of one image.

    Raises:
        ImportError: OpenVINO is not installed.
        RuntimeError: OpenVINO cannot convert it.
    """
    openvino = load_openvino()
    pixels = PixelBackbone(backbone)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')  # OpenVINO traces, which torch calls deprecated
        model = openvino.convert_model(pixels, example_input=pixels.noise(1))
    model.reshape([1, *backbone.image_size, 3])
    return model


def read_model(path: Path) -> Any:
    """Read a converted backbone from its `.xml` file, with the `.bin` file beside it.

    Raises:
        ImportError: OpenVINO is not installed.
        RuntimeError: OpenVINO cannot read it.
    """
    return _core().read_model(path)

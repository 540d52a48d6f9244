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

from step_ros.model.backbone import Backbone
from step_ros.stream.encoder import PixelBackbone, Precision
from step_ros.stream.preprocess import fit_image

# OpenVINO's names for what it computes with; it would else take bfloat16 where there is any.
_HINTS = {'float32': 'f32', 'bfloat16': 'bf16', 'int8': 'f32'}


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

    Images are encoded one by one, at a fixed shape: on a CPU that is as fast as in a batch, and
    faster than at shapes that vary. It takes as many threads as torch.

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

    def __init__(
        self, model: Any, *, precision: Precision = 'float32', variant: str = ''
    ) -> None:
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
        compiled = _core().compile_model(model, 'CPU', settings)
        self._shape = tuple(int(side) for side in compiled.output(0).shape[1:])
        self._request: Any = compiled.create_infer_request()
        release = openvino.__version__.partition('-')[0]
        self.description = f'OpenVINO {release} on cpu, {variant or precision}'

    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Encode images of any size, uint8 RGB `[h, w, 3]`, into float32 tokens `[b, n, d]`."""
        tokens_bnd = np.empty((len(images), *self._shape), dtype=np.float32)
        for tokens_nd, image in zip(tokens_bnd, images, strict=True):
            fitted = np.ascontiguousarray(fit_image(image, self._size))
            found = self._request.infer({0: fitted[None]}, share_inputs=True, share_outputs=True)
            tokens_nd[:] = found[0][0]
        return torch.from_numpy(tokens_bnd)


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

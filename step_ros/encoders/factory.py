# SPDX-License-Identifier: Apache-2.0
"""Choose and start the runtime of the encoder.

An invalid value is an error. If a runtime does not start, or its tokens of the first image are
wrong, the encoder falls back to torch on the CPU and logs a warning.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import torch

from step_ros.encoders.base import (
    MAX_BATCH,
    Encoder,
    EncoderError,
    Precision,
    TorchEncoder,
    choose_device,
)
from step_ros.encoders.cuda import CudaEncoder
from step_ros.encoders.exported import (
    EXPORTS,
    SPEC_FILE,
    ExportedEncoder,
    export_name,
    load_export,
)
from step_ros.encoders.onnx import OnnxEncoder, export_encoder
from step_ros.encoders.openvino import OpenVinoEncoder, convert_backbone, read_model
from step_ros.files import expand_home
from step_ros.model.backbone import Backbone
from step_ros.reporting.installation import how_to_install

INT8 = export_name('openvino', 'int8')
RUNTIMES = ('auto', 'torch', 'openvino', INT8, 'onnx')
# Precisions that a runtime supports, its default first.
PRECISIONS: dict[str, tuple[Precision, ...]] = {
    'cuda': ('bfloat16', 'float16', 'float32'),
    'torch': ('float32', 'bfloat16'),
    'openvino': ('float32', 'bfloat16'),
    'onnx': ('float32',),
}
# Largest allowed difference of a token from torch in float32, as a share of the largest absolute
# value. The error of int8 depends on the images: `step_ros bundle export --int8` measures it.
TOLERANCES: dict[Precision, float] = {'float32': 1e-4, 'float16': 1e-2, 'bfloat16': 5e-2}

# Least number of calls and seconds of one round of a measurement.
FEWEST_CALLS = 2
ROUND_SECONDS = 0.03

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The checked values of `create_encoder`.

    Attributes:
        runtime: One of `RUNTIMES`, or the path of a folder.
        device: Device of the heads.
        precision: `auto`, or a precision that the runtime supports.
        max_batch: Largest number of images in one forward pass.
    """

    runtime: str
    device: torch.device
    precision: str
    max_batch: int

    def precision_for(self, kind: str) -> Precision:
        """Return the requested precision for a runtime, or its default for `auto`."""
        for supported in PRECISIONS[kind]:
            if supported == self.precision:
                return supported
        return PRECISIONS[kind][0]


def create_encoder(
    backbone: Backbone,
    *,
    runtime: str = 'auto',
    device: str = 'auto',
    precision: str = 'auto',
    max_batch: int = MAX_BATCH,
    bundle: Path | None = None,
) -> Encoder:
    """Start the encoder in a runtime; its `description` holds the choice and the reason.

    Args:
        backbone: The frozen encoder.
        runtime: `torch`, `openvino` or `onnx`; `openvino-int8` from the exports of the bundle; the
            folder of an exported encoder; or `auto`. `auto` chooses torch on a CUDA device if
            there is one. On the CPU it chooses the faster of torch and OpenVINO, if installed.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; all runtimes but torch run on the CPU.
        precision: `auto`, `float32`, `bfloat16`, or on CUDA `float16`. `auto` is `float32` on the
            CPU and `bfloat16` on CUDA, or `float16` if the device has no bfloat16.
        max_batch: Largest number of images in one forward pass.
        bundle: The bundle's folder, for `openvino-int8`.

    Raises:
        BundleError: An exported encoder is missing, damaged or made from another backbone.
        ValueError: A value is unknown, or two values contradict; lists the valid ones.
    """
    exported = _find_export(runtime, backbone, bundle)
    kind = exported.spec.format if exported is not None else runtime
    request = _check_request(
        kind, runtime, device=device, precision=precision, max_batch=max_batch
    )
    if exported is not None and exported.spec.precision == 'int8' and precision != 'auto':
        raise ValueError(f'precision {precision!r}: runtime {runtime!r} is int8; use auto')
    if kind == 'torch' or request.device.type == 'cuda':
        return _start_torch(backbone, request)
    if kind == 'auto':
        return _start_faster(backbone, request)
    if exported is not None:
        return _start_or_fall_back(partial(_start_exported, exported, request), backbone, request)
    start = {'openvino': _start_openvino, 'onnx': _start_onnx}[kind]
    return _start_or_fall_back(partial(start, backbone, request), backbone, request)


def _find_export(runtime: str, backbone: Backbone, bundle: Path | None) -> ExportedEncoder | None:
    """Load the exported encoder that `runtime` names; None if `runtime` needs no export."""
    if runtime == INT8:
        if bundle is None:
            raise ValueError(
                f'runtime {runtime!r} needs a bundle with an exported encoder; without a bundle, '
                f'give the folder with {SPEC_FILE}'
            )
        return load_export(bundle / EXPORTS / INT8, backbone)
    if runtime in RUNTIMES:
        return None
    folder = expand_home(runtime)
    if not runtime or not folder.is_dir():
        raise ValueError(
            f'runtime {runtime!r} is unknown; expected {", ".join(RUNTIMES)} or a folder with '
            f'{SPEC_FILE}'
        )
    return load_export(folder, backbone)


def _check_request(
    kind: str, runtime: str, *, device: str, precision: str, max_batch: int
) -> _Request:
    """Check the values of `create_encoder` for unknown ones and contradictions."""
    if max_batch < 1:
        raise ValueError(f'max_batch={max_batch}: expected at least 1')
    on_cpu = kind in ('openvino', 'onnx')
    chosen = choose_device('cpu' if on_cpu and device == 'auto' else device)
    if on_cpu and chosen.type != 'cpu':
        raise ValueError(
            f'device {device!r}: runtime {runtime!r} runs on the CPU; choose auto or cpu'
        )
    runs_by = 'cuda' if chosen.type == 'cuda' else 'torch' if kind == 'auto' else kind
    if precision not in ('auto', *PRECISIONS[runs_by]):
        known = {'auto', *get_args(Precision)} - {'int8'}
        fault = f'is not supported by runtime {runtime!r}' if precision in known else 'is unknown'
        raise ValueError(
            f'precision {precision!r} {fault}; expected auto, {", ".join(PRECISIONS[runs_by])}'
        )
    if precision == 'auto' and runs_by == 'cuda' and not torch.cuda.is_bf16_supported():
        precision = 'float16'
    return _Request(runtime=runtime, device=chosen, precision=precision, max_batch=max_batch)


def _start_torch(backbone: Backbone, request: _Request) -> Encoder:
    """Start torch, on the CUDA device if one was chosen."""
    if request.device.type == 'cuda':
        start = partial(
            CudaEncoder,
            backbone,
            device=request.device,
            max_batch=request.max_batch,
            precision=request.precision_for('cuda'),
        )
        return _start_or_fall_back(start, backbone, request)
    return TorchEncoder(
        backbone,
        device=torch.device('cpu'),
        max_batch=request.max_batch,
        precision=request.precision_for('torch'),
        traced=True,
    )


def _start_openvino(backbone: Backbone, request: _Request) -> Encoder:
    return OpenVinoEncoder(convert_backbone(backbone), precision=request.precision_for('openvino'))


def _start_onnx(backbone: Backbone, request: _Request) -> Encoder:
    with TemporaryDirectory() as folder:
        path = Path(folder) / 'encoder.onnx'
        export_encoder(backbone, path)
        return OnnxEncoder(path, max_batch=request.max_batch)


def _start_exported(exported: ExportedEncoder, request: _Request) -> Encoder:
    if exported.spec.format == 'onnx':
        return OnnxEncoder(exported.main_file, max_batch=request.max_batch)
    return OpenVinoEncoder(
        read_model(exported.main_file),
        precision='int8'
        if exported.spec.precision == 'int8'
        else request.precision_for('openvino'),
        variant=exported.variant,
    )


def _start_or_fall_back(
    start: Callable[[], Encoder], backbone: Backbone, request: _Request
) -> Encoder:
    """Start a runtime and check its first image; fall back to torch on the CPU on any error."""
    try:
        encoder = start()
        check_tokens(encoder, backbone)
    except Exception as error:  # a runtime's library may raise any exception
        reason = _reason(error, request.runtime)
    else:
        return encoder
    # Start torch after the handler: the exception still refers to memory of the failed runtime.
    fallback = TorchEncoder(
        backbone, device=torch.device('cpu'), max_batch=request.max_batch, traced=True
    )
    _logger.warning(
        'runtime %r on %s failed to start; falling back to %s: %s',
        *(request.runtime, request.device, fallback.description, reason),
    )
    fallback.description += (
        f'; fallback: runtime {request.runtime!r} on {request.device} failed to start: {reason}'
    )
    return fallback


def _start_faster(backbone: Backbone, request: _Request) -> Encoder:
    """Start torch and OpenVINO on the CPU and return the faster one."""
    torch_encoder = _start_torch(backbone, request)
    try:
        openvino_encoder = _start_openvino(backbone, request)
        check_tokens(openvino_encoder, backbone)
    except Exception as error:  # OpenVINO may raise any exception; the user did not request it
        torch_encoder.description += (
            f'; runtime auto: OpenVINO is not available: {_reason(error, "openvino")}'
        )
        return torch_encoder
    ms = milliseconds([torch_encoder, openvino_encoder], image_size=backbone.image_size)
    order = np.argsort(ms)
    faster, slower = ((torch_encoder, openvino_encoder)[index] for index in order)
    faster.description += (
        f'; runtime auto: fastest with {ms[order[0]]:.1f} ms per image '
        f'({slower.description}: {ms[order[1]]:.1f} ms)'
    )
    return faster


def check_tokens(encoder: Encoder, backbone: Backbone) -> float:
    """Encode an image and compare its tokens with torch in float32.

    Returns:
        The largest difference of a value, as a share of the largest absolute value.

    Raises:
        EncoderError: The tokens have another shape, are not finite, or differ by more than
            `TOLERANCES` allow.
    """
    image = noise_image(backbone.image_size)
    expected = TorchEncoder(backbone, device=torch.device('cpu')).encode([image])
    found = encoder.encode([image]).cpu()
    if found.shape != expected.shape or not bool(found.isfinite().all()):
        raise EncoderError(
            f'the tokens are not finite, or have shape {list(found.shape)}; expected '
            f'{list(expected.shape)}'
        )
    difference = float((found - expected).abs().max() / expected.abs().max())
    allowed = TOLERANCES.get(encoder.precision, float('inf'))
    if difference > allowed:
        raise EncoderError(
            f'the tokens differ from torch in float32 by {difference:.1e} of the largest value; '
            f'{allowed:.0e} is allowed for {encoder.precision}'
        )
    return difference


def milliseconds(
    encoders: Sequence[Encoder], *, image_size: tuple[int, int], rounds: int = 2, batch: int = 1
) -> list[float]:
    """Return the shortest time of each encoder for an image, in milliseconds.

    The shortest time counts, because other work on the machine can only add to it.

    Args:
        encoders: The encoders, measured alternately.
        image_size: Height and width of the images in pixels.
        rounds: Number of rounds; each measures every encoder with a few calls.
        batch: Number of images in a call; the time of a call is divided by it.
    """
    images = [noise_image(image_size)] * batch
    shortest = [float('inf')] * len(encoders)
    for _ in range(rounds):
        for index, encoder in enumerate(encoders):
            _timed(encoder, images)  # not counted: threads of the last encoder may still run
            start = time.perf_counter()
            calls = 0
            while calls < FEWEST_CALLS or time.perf_counter() - start < ROUND_SECONDS:
                shortest[index] = min(shortest[index], _timed(encoder, images) / batch)
                calls += 1
    return shortest


def _timed(encoder: Encoder, images: Sequence[np.ndarray]) -> float:
    """Return the time of one call in milliseconds."""
    start = time.perf_counter()
    encoder.encode(images)
    if encoder.device.type == 'cuda':
        torch.cuda.synchronize(encoder.device)
    return 1e3 * (time.perf_counter() - start)


def noise_image(image_size: tuple[int, int]) -> np.ndarray:
    """Return an image of noise, uint8 RGB `[h, w, 3]`, the same at every call."""
    return np.random.default_rng(0).integers(0, 256, (*image_size, 3), dtype=np.uint8)


def _reason(error: Exception, runtime: str) -> str:
    """Return the reason of a failure, with the command to install a missing package."""
    first_line = str(error).strip().partition('\n')[0]
    if not isinstance(error, ImportError):
        return f'{type(error).__name__}: {first_line}'
    return f'{first_line}; {install_hint(runtime)}'


def install_hint(runtime: str) -> str:
    """Return the command that installs the packages of a runtime, as a hint for messages."""
    return how_to_install('onnx' if runtime == 'onnx' else 'openvino')

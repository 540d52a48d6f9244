"""Which runtime runs the encoder: what was asked for where it works, and why.

A value that nobody can mean is refused. A runtime that does not start, or whose first image comes
out wrong, is no reason to stand still: torch takes its place, with a warning.
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
from step_ros.model.backbone import Backbone

INT8 = export_name('openvino', 'int8')
RUNTIMES = ('auto', 'torch', 'openvino', INT8, 'onnx')
# Precisions that a runtime offers, its default first.
PRECISIONS: dict[str, tuple[Precision, ...]] = {
    'cuda': ('bfloat16', 'float16', 'float32'),
    'torch': ('float32', 'bfloat16'),
    'openvino': ('float32', 'bfloat16'),
    'onnx': ('float32',),
}
# How far a token may be from torch's in float32 at most, as a share of the greatest one. What int8
# costs depends on the images: `step_ros bundle export --int8` measures it.
TOLERANCES: dict[Precision, float] = {'float32': 1e-4, 'float16': 1e-2, 'bfloat16': 5e-2}

# A measurement of one round: this many calls, and this many seconds, at least.
FEWEST_CALLS = 2
ROUND_SECONDS = 0.03

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What was asked for, checked.

    Attributes:
        runtime: One of `RUNTIMES`, or a folder's path.
        device: Where the heads will run.
        precision: `auto`, or one of those that the runtime offers.
        max_batch: Most images in one pass.
    """

    runtime: str
    device: torch.device
    precision: str
    max_batch: int

    def precision_of(self, kind: str) -> Precision:
        """Return the precision for a kind of runtime, its default unless one was asked for."""
        for offered in PRECISIONS[kind]:
            if offered == self.precision:
                return offered
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
    """Start the encoder in a runtime, and say in its `description` which and why.

    Args:
        backbone: The frozen encoder.
        runtime: `torch`, `openvino`, `onnx`; `openvino-int8`, as exported beside the bundle; the
            folder of an exported encoder; or `auto`: torch on a CUDA device where there is one,
            else on the CPU the faster of torch and OpenVINO, if that is installed.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; all but torch run on the CPU.
        precision: `auto` (`float32` on the CPU; on CUDA `bfloat16`, or `float16` where it has none
            of the former), `float32`, `bfloat16`, or on CUDA `float16`.
        max_batch: Most images in one forward pass.
        bundle: The bundle's folder, for `openvino-int8`.

    Raises:
        BundleError: An exported encoder is missing, damaged or made from another backbone.
        ValueError: A value is unknown, or two do not go together; says what would.
    """
    exported = _find_export(runtime, backbone, bundle)
    kind = exported.spec.format if exported is not None else runtime
    wish = _check(kind, runtime, device=device, precision=precision, max_batch=max_batch)
    if exported is not None and exported.spec.precision == 'int8' and precision != 'auto':
        raise ValueError(f'precision {precision!r}: {runtime!r} is int8; leave it at auto')
    if kind == 'torch' or wish.device.type == 'cuda':
        return _torch(backbone, wish)
    if kind == 'auto':
        return _faster(backbone, wish)
    if exported is not None:
        return _or_torch(partial(_serve, exported, wish), backbone, wish)
    start = {'openvino': _openvino, 'onnx': _onnx}[kind]
    return _or_torch(partial(start, backbone, wish), backbone, wish)


def _find_export(runtime: str, backbone: Backbone, bundle: Path | None) -> ExportedEncoder | None:
    """Load the exported encoder that a runtime names; None for one that needs none."""
    if runtime == INT8:
        if bundle is None:
            raise ValueError(f'runtime {runtime!r} goes with a bundle; or give the folder itself')
        return load_export(bundle / EXPORTS / INT8, backbone)
    if runtime in RUNTIMES:
        return None
    folder = Path(runtime).expanduser()
    if not runtime or not folder.is_dir():
        raise ValueError(
            f'runtime {runtime!r} is unknown; expected {", ".join(RUNTIMES)} or a folder with '
            f'{SPEC_FILE}'
        )
    return load_export(folder, backbone)


def _check(kind: str, runtime: str, *, device: str, precision: str, max_batch: int) -> _Wish:
    """Refuse what is unknown or does not go together."""
    if max_batch < 1:
        raise ValueError(f'max_batch={max_batch}: expected at least 1')
    on_cpu = kind in ('openvino', 'onnx')
    chosen = choose_device('cpu' if on_cpu and device == 'auto' else device)
    if on_cpu and chosen.type != 'cpu':
        raise ValueError(f'device {device!r}: {runtime!r} runs on the CPU; choose auto or cpu')
    served = 'cuda' if chosen.type == 'cuda' else 'torch' if kind == 'auto' else kind
    if precision not in ('auto', *PRECISIONS[served]):
        known = {'auto', *get_args(Precision)} - {'int8'}
        why = f'is not offered by runtime {runtime!r}' if precision in known else 'is unknown'
        raise ValueError(
            f'precision {precision!r} {why}; expected auto, {", ".join(PRECISIONS[served])}'
        )
    if precision == 'auto' and served == 'cuda' and not torch.cuda.is_bf16_supported():
        precision = 'float16'
    return _Wish(runtime=runtime, device=chosen, precision=precision, max_batch=max_batch)


def _torch(backbone: Backbone, wish: _Wish) -> Encoder:
    """Run torch, on a CUDA device if one was chosen."""
    if wish.device.type == 'cuda':
        start = partial(
            CudaEncoder,
            backbone,
            device=wish.device,
            max_batch=wish.max_batch,
            precision=wish.precision_of('cuda'),
        )
        return _or_torch(start, backbone, wish)
    return TorchEncoder(
        backbone,
        device=torch.device('cpu'),
        max_batch=wish.max_batch,
        precision=wish.precision_of('torch'),
        traced=True,
    )


def _openvino(backbone: Backbone, wish: _Wish) -> Encoder:
    return OpenVinoEncoder(convert_backbone(backbone), precision=wish.precision_of('openvino'))


def _onnx(backbone: Backbone, wish: _Wish) -> Encoder:
    with TemporaryDirectory() as folder:
        path = Path(folder) / 'encoder.onnx'
        export_encoder(backbone, path)
        return OnnxEncoder(path, max_batch=wish.max_batch)


def _serve(exported: ExportedEncoder, wish: _Wish) -> Encoder:
    if exported.spec.format == 'onnx':
        return OnnxEncoder(exported.main_file, max_batch=wish.max_batch)
    return OpenVinoEncoder(
        read_model(exported.main_file),
        precision='int8' if exported.spec.precision == 'int8' else wish.precision_of('openvino'),
        variant=exported.variant,
    )


def _or_torch(start: Callable[[], Encoder], backbone: Backbone, wish: _Wish) -> Encoder:
    """Start a runtime and try its first image; take torch on the CPU where that fails."""
    try:
        encoder = start()
        check_tokens(encoder, backbone)
    except Exception as error:  # whatever a runtime's library may raise
        why = _why(error, wish.runtime)
    else:
        return encoder
    # After the handler: the exception holds what was taken until then.
    fallback = TorchEncoder(
        backbone, device=torch.device('cpu'), max_batch=wish.max_batch, traced=True
    )
    _logger.warning(
        'runtime %r on %s does not start, the encoder runs by %s: %s',
        *(wish.runtime, wish.device, fallback.description, why),
    )
    fallback.description += f'; not by {wish.runtime!r} on {wish.device}: {why}'
    return fallback


def _faster(backbone: Backbone, wish: _Wish) -> Encoder:
    """Start torch and OpenVINO on the CPU and keep the one that is faster here."""
    by_torch = _torch(backbone, wish)
    try:
        by_openvino = _openvino(backbone, wish)
        check_tokens(by_openvino, backbone)
    except Exception as error:  # whatever OpenVINO may raise; nobody asked for it
        by_torch.description += f'; auto: no OpenVINO here, {_why(error, "openvino")}'
        return by_torch
    ms = milliseconds([by_torch, by_openvino], image_size=backbone.image_size)
    order = np.argsort(ms)
    faster, slower = ((by_torch, by_openvino)[index] for index in order)
    faster.description += (
        f'; auto: {ms[order[0]]:.1f} ms an image, {slower.description} takes {ms[order[1]]:.1f}'
    )
    return faster


def check_tokens(encoder: Encoder, backbone: Backbone) -> float:
    """Encode a first image and compare it with torch in float32.

    Returns:
        The greatest difference of a token's channel, as a share of the greatest channel.

    Raises:
        EncoderError: Its tokens are not finite, or differ by more than `TOLERANCES` allow.
    """
    image = noise_image(backbone.image_size)
    expected = TorchEncoder(backbone, device=torch.device('cpu')).encode([image])
    found = encoder.encode([image]).cpu()
    if found.shape != expected.shape or not bool(found.isfinite().all()):
        raise EncoderError(
            f'its tokens are not finite, or not {list(expected.shape)} but {list(found.shape)}'
        )
    difference = float((found - expected).abs().max() / expected.abs().max())
    allowed = TOLERANCES.get(encoder.precision, float('inf'))
    if difference > allowed:
        raise EncoderError(
            f'its tokens differ from those of torch in float32 by {difference:.1e} of the '
            f'greatest; {encoder.precision} may differ by {allowed:.0e}'
        )
    return difference


def milliseconds(
    encoders: Sequence[Encoder], *, image_size: tuple[int, int], rounds: int = 2, batch: int = 1
) -> list[float]:
    """Return the shortest time that each encoder takes for an image, in rounds of a few calls.

    The shortest, for whatever else the machine does can only add to it.

    Args:
        encoders: They take turns.
        image_size: Height and width of the images in pixels.
        rounds: How many turns each has.
        batch: Images that are given at once; each takes an equal part of the time.
    """
    images = [noise_image(image_size)] * batch
    shortest = [float('inf')] * len(encoders)
    for _ in range(rounds):
        for index, encoder in enumerate(encoders):
            _timed(encoder, images)  # another one's threads have just left the processor
            began = time.perf_counter()
            calls = 0
            while calls < FEWEST_CALLS or time.perf_counter() - began < ROUND_SECONDS:
                shortest[index] = min(shortest[index], _timed(encoder, images) / batch)
                calls += 1
    return shortest


def _timed(encoder: Encoder, images: Sequence[np.ndarray]) -> float:
    started = time.perf_counter()
    encoder.encode(images)
    if encoder.device.type == 'cuda':
        torch.cuda.synchronize(encoder.device)
    return 1e3 * (time.perf_counter() - started)


def noise_image(image_size: tuple[int, int]) -> np.ndarray:
    """Make an image of noise, uint8 RGB `[h, w, 3]`, the same every time."""
    return np.random.default_rng(0).integers(0, 256, (*image_size, 3), dtype=np.uint8)


def _why(error: Exception, runtime: str) -> str:
    """Say what went wrong, and the mend where it is a missing package."""
    first = str(error).strip().partition('\n')[0]
    if not isinstance(error, ImportError):
        return f'{type(error).__name__}: {first}'
    return f'{first}; {install_hint(runtime)}'


def install_hint(runtime: str) -> str:
    """Say how to install what a runtime takes."""
    extra = 'onnx' if runtime == 'onnx' else 'openvino'
    return f"install it: pip install 'step_ros[{extra}]'"

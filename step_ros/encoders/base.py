"""The encoder as a runtime: camera images in, tokens out."""

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from step_ros.images.resize import fit_images
from step_ros.model.backbone import Backbone

# ---- Work on images in parts, and in smaller ones where the device has no memory for them.

# Most images in one forward pass, unless a caller says otherwise.
MAX_BATCH = 16

Result = TypeVar('Result')

_logger = logging.getLogger(__name__)


class EncoderError(RuntimeError):
    """The encoder cannot encode; says why, and the mend."""


class Batches:
    """Cuts images into parts that the device has memory for.

    Args:
        most: Images in a part at first; halved, for good, when the device runs out of memory.
        on_shrink: Called with the new number, to let go of what was kept for larger parts.

    Raises:
        ValueError: `most` is not positive.
    """

    def __init__(self, most: int, *, on_shrink: Callable[[int], None] | None = None) -> None:
        if most < 1:
            raise ValueError(f'max_batch={most}: expected at least 1')
        self.most = most
        self._on_shrink = on_shrink

    def run(
        self, images: Sequence[np.ndarray], encode: Callable[[Sequence[np.ndarray]], Tensor]
    ) -> Tensor:
        """Encode the parts one after the other and put their tokens together.

        Raises:
            EncoderError: The device has no memory for a single image.
        """
        done: list[Tensor] = []
        start = 0
        while start < len(images):
            part = images[start : start + self.most]
            tokens_bnd = self.attempt(len(part), lambda part=part: encode(part))  # type: ignore[misc]
            if tokens_bnd is not None:
                done.append(tokens_bnd)
                start += len(part)
        return done[0] if len(done) == 1 else torch.cat(done)

    def attempt(self, size: int, work: Callable[[], Result]) -> Result | None:
        """Do work on `size` images; halve `most` and return None if there is no memory for it.

        Raises:
            EncoderError: There is no memory, and `size` is 1.
        """
        try:
            return work()
        except torch.cuda.OutOfMemoryError as error:
            if size == 1:
                raise EncoderError(
                    'the device has no memory for a single image: end other programs on it, take '
                    f'a smaller backbone or image size, or another device ({error})'
                ) from error
            why = str(error).partition('\n')[0]
        # After the handler: the exception holds the frames, and the tensors, of what failed.
        self.most = max(1, size // 2)
        _logger.warning('out of memory with %d images: %d from now on (%s)', size, self.most, why)
        if self._on_shrink is not None:
            self._on_shrink(self.most)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None


# ---- From pixels to what the backbone takes.


def normalise(
    x_bhw3: Tensor, *, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Turn uint8 RGB images `[b, h, w, 3]` into normalised float images `[b, 3, h, w]`."""
    mean_311, std_311 = channels_311(mean), channels_311(std)
    return standardise(x_bhw3, mean_311.to(x_bhw3.device), std_311.to(x_bhw3.device))


def channels_311(values: tuple[float, float, float]) -> Tensor:
    """Return a value for each channel in the shape that meets `[b, 3, h, w]`."""
    return torch.tensor(values).view(3, 1, 1)


def standardise(x_bhw3: Tensor, mean_311: Tensor, std_311: Tensor) -> Tensor:
    """Do the work of `normalise`, with what it subtracts and divides by as tensors."""
    x_b3hw = x_bhw3.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return x_b3hw.div_(255).sub_(mean_311).div_(std_311)


Precision = Literal['float32', 'bfloat16', 'float16', 'int8']

# Traced and eager backbones must agree on these batches, within this of the greatest token.
TRACED_BATCHES = (1, 2, 3)

TRACED_TOLERANCE = 1e-5


class Encoder(Protocol):
    """Anything that turns images into tokens.

    Attributes:
        device: Where its tokens lie, and so where the heads run.
        runtime: What runs it: `torch`, `openvino` or `onnx`.
        precision: What it computes with.
        variant: Empty where the tokens are those of the backbone within `TOLERANCES`; else what
            tells the answers from the backbone's own, for example `int8:1a2b3c4d5e6f`.
        description: What runs where, and why it was chosen: for the log and diagnostics.
    """

    device: torch.device
    runtime: str
    precision: Precision
    variant: str
    description: str

    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Encode images of any size, uint8 RGB `[h, w, 3]`, into float32 tokens `[b, n, d]`."""


def choose_device(wanted: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ValueError: The device is unknown or not there.
    """
    if wanted == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ValueError(
            f'device {wanted!r} is unknown; expected auto, cpu, cuda, cuda:N'
        ) from error
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f'device {wanted!r} is not there: torch finds {torch.cuda.device_count()} CUDA devices'
        )
    if device.type not in ('cpu', 'cuda'):
        raise ValueError(f'device {wanted!r} is not served; expected auto, cpu, cuda or cuda:N')
    return device


class PixelBackbone(nn.Module):
    """A backbone that takes pixels: what the runtimes trace, capture, convert and export.

    Args:
        backbone: The frozen encoder; becomes a part of this module.
        precision: Of matrix products, by autocast; the residual stream stays in float32.
    """

    mean_311: Tensor
    std_311: Tensor

    def __init__(self, backbone: Backbone, *, precision: Precision = 'float32') -> None:
        super().__init__()
        self.backbone = backbone
        self.image_size = backbone.image_size
        self.register_buffer('mean_311', channels_311(backbone.mean), persistent=False)
        self.register_buffer('std_311', channels_311(backbone.std), persistent=False)
        self._dtype = None if precision == 'float32' else getattr(torch, precision)
        self.eval()

    def forward(self, x_bhw3: Tensor) -> Tensor:
        """Encode uint8 RGB images of `image_size` into float32 tokens `[b, n, d]`."""
        x_b3hw = standardise(x_bhw3, self.mean_311, self.std_311)
        if self._dtype is None:
            tokens_bnd: Tensor = self.backbone(x_b3hw)
            return tokens_bnd
        # No cache of cast weights: a captured graph must not refer to it.
        with torch.autocast(x_bhw3.device.type, dtype=self._dtype, cache_enabled=False):
            tokens_bnd = self.backbone(x_b3hw)
        return tokens_bnd.float()

    def noise(self, batch: int, *, seed: int = 0) -> Tensor:
        """Make images to try the backbone with: uint8 noise, `[b, h, w, 3]`."""
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, *self.image_size, 3)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


class TorchEncoder:
    """The backbone run by torch as it is, on any device.

    Args:
        backbone: The frozen encoder; moved to `device`.
        device: Where it runs.
        max_batch: Most images in one forward pass; more are done in turns.
        precision: Of matrix products; `float32` changes nothing.
        traced: Whether to record the backbone's operations once and run them without Python, which
            for a small backbone is a third of the time. What is recorded no longer changes with
            the backbone: for serving, not for training.
    """

    runtime = 'torch'
    variant = ''

    def __init__(
        self,
        backbone: Backbone,
        *,
        device: torch.device,
        max_batch: int = MAX_BATCH,
        precision: Precision = 'float32',
        traced: bool = False,
    ) -> None:
        self.device = device
        self.precision = precision
        self._pixels = PixelBackbone(backbone, precision=precision).to(device)
        recorded = _trace(self._pixels, device) if traced else None
        self._run: Callable[[Tensor], Tensor] = recorded or self._pixels
        self._batches = Batches(max_batch)
        self.description = f'torch on {device}, {precision}' + (', traced' if recorded else '')

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Encode images of any size, uint8 RGB `[h, w, 3]`, into float32 tokens `[b, n, d]`.

        Raises:
            EncoderError: The device has no memory for a single image.
        """
        return self._batches.run(images, self._encode)

    def _encode(self, images: Sequence[np.ndarray]) -> Tensor:
        x_bhw3 = torch.from_numpy(fit_images(images, self._pixels.image_size))
        return self._run(x_bhw3.to(self.device))


@torch.no_grad()
def _trace(pixels: PixelBackbone, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """Record a backbone's operations; None where that is not exact, or not to be had."""
    try:
        with warnings.catch_warnings():
            # That tracing is deprecated, and that shapes become constants: both are seen to below.
            warnings.simplefilter('ignore')
            example = pixels.noise(max(TRACED_BATCHES)).to(device)
            recorded: Callable[[Tensor], Tensor] = torch.jit.freeze(
                torch.jit.trace(pixels, example, check_trace=False)  # type: ignore[no-untyped-call]
            )
            for batch in TRACED_BATCHES:
                x_bhw3 = pixels.noise(batch, seed=batch).to(device)
                expected = pixels(x_bhw3)
                difference = float((recorded(x_bhw3) - expected).abs().max())
                if not difference <= TRACED_TOLERANCE * float(expected.abs().max()):
                    raise RuntimeError(f'tokens of {batch} images differ by {difference:.1e}')
    except Exception as error:  # whatever a model, or a torch without tracing, may raise
        _logger.info('the backbone runs untraced: %s: %s', type(error).__name__, error)
        return None
    return recorded

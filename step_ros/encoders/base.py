# SPDX-License-Identifier: Apache-2.0
"""The encoder interface, and the parts that the runtimes share.

An encoder turns camera images into tokens (`Encoder`). Torch runs it on any device
(`TorchEncoder`). `PixelBackbone` is the backbone with normalisation in front: the module that
other runtimes convert. `BatchSplitter` splits images into batches that fit into memory.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from step_ros.images.resize import fit_images
from step_ros.model.backbone import Backbone

Precision = Literal['float32', 'bfloat16', 'float16', 'int8']

# Default of the largest number of images in one forward pass.
MAX_BATCH = 16

# The traced backbone must agree with the eager one on batches of these sizes. The tolerance is a
# share of the largest absolute value of a token.
TRACED_BATCHES = (1, 2, 3)
TRACED_TOLERANCE = 1e-5

Result = TypeVar('Result')

_logger = logging.getLogger(__name__)


class Encoder(Protocol):
    """A runtime that turns images into tokens.

    Attributes:
        device: Device of the tokens, on which the heads run too.
        runtime: `torch`, `openvino` or `onnx`.
        precision: Precision of its arithmetic.
        variant: Empty if the tokens agree with torch within `TOLERANCES`; else an identifier of
            the quantised encoder, for example `int8:1a2b3c4d5e6f`.
        description: Runtime, device and the reason of the choice, for log and diagnostics.
    """

    device: torch.device
    runtime: str
    precision: Precision
    variant: str
    description: str

    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Encode images of any size, uint8 RGB `[h, w, 3]`, into float32 tokens `[b, n, d]`."""


class EncoderError(RuntimeError):
    """The encoder does not start, or cannot encode an image."""


def choose_device(wanted: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ValueError: The device is unknown, not supported or not present.
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
            f'device {wanted!r} not found: torch finds {torch.cuda.device_count()} CUDA devices; '
            'choose auto or cpu, or check the driver'
        )
    if device.type not in ('cpu', 'cuda'):
        raise ValueError(f'device {wanted!r} is not supported; expected auto, cpu, cuda or cuda:N')
    return device


class TorchEncoder:
    """The backbone in torch, on any device.

    Args:
        backbone: The frozen encoder; it is moved to `device`.
        device: Device that runs it.
        max_batch: Largest number of images in one forward pass; more images are split.
        precision: Precision of matrix products; `float32` leaves them unchanged.
        traced: Whether to trace the backbone once and run it without Python. For a small backbone
            this takes a third of the time. Later changes of the backbone have no effect on the
            trace: use it for serving, not for training.
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
        trace = _trace(self._pixels, device) if traced else None
        self._run: Callable[[Tensor], Tensor] = trace or self._pixels
        self._splitter = BatchSplitter(max_batch)
        self.description = f'torch on {device}, {precision}' + (', traced' if trace else '')

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Encode images of any size, uint8 RGB `[h, w, 3]`, into float32 tokens `[b, n, d]`.

        Raises:
            EncoderError: The device has no memory for a single image.
        """
        return self._splitter.encode(images, self._encode)

    def _encode(self, images: Sequence[np.ndarray]) -> Tensor:
        x_bhw3 = torch.from_numpy(fit_images(images, self._pixels.image_size))
        return self._run(x_bhw3.to(self.device))


class PixelBackbone(nn.Module):
    """A backbone with pixels as input; the runtimes trace, capture, convert and export it.

    Args:
        backbone: The frozen encoder; it becomes a part of this module.
        precision: Precision of matrix products, by autocast; the residual stream stays in float32.
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
        # A captured CUDA graph must not refer to autocast's cache of cast weights.
        with torch.autocast(x_bhw3.device.type, dtype=self._dtype, cache_enabled=False):
            tokens_bnd = self.backbone(x_b3hw)
        return tokens_bnd.float()

    def noise_images(self, batch: int, *, seed: int = 0) -> Tensor:
        """Return images of uint8 noise, `[b, h, w, 3]`, as example input."""
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, *self.image_size, 3)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@torch.no_grad()
def _trace(pixels: PixelBackbone, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """Trace a backbone; return None if it cannot be traced or the trace is not exact."""
    try:
        with warnings.catch_warnings():
            # Torch warns that tracing is deprecated and that shapes become constants. The check
            # below covers both.
            warnings.simplefilter('ignore')
            example = pixels.noise_images(max(TRACED_BATCHES)).to(device)
            traced: Callable[[Tensor], Tensor] = torch.jit.freeze(
                torch.jit.trace(pixels, example, check_trace=False)  # type: ignore[no-untyped-call]
            )
            for batch in TRACED_BATCHES:
                x_bhw3 = pixels.noise_images(batch, seed=batch).to(device)
                expected = pixels(x_bhw3)
                difference = float((traced(x_bhw3) - expected).abs().max())
                if not difference <= TRACED_TOLERANCE * float(expected.abs().max()):
                    raise RuntimeError(f'tokens of {batch} images differ by {difference:.1e}')
    except Exception as error:  # models, and torch without tracing, may raise any exception
        _logger.info(
            'cannot trace the backbone, running it without a trace: %s: %s',
            *(type(error).__name__, error),
        )
        return None
    return traced


def normalise(
    x_bhw3: Tensor, *, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Normalise uint8 RGB images `[b, h, w, 3]` to float32 images `[b, 3, h, w]`."""
    mean_311, std_311 = channels_311(mean), channels_311(std)
    return standardise(x_bhw3, mean_311.to(x_bhw3.device), std_311.to(x_bhw3.device))


def channels_311(values: tuple[float, float, float]) -> Tensor:
    """Return one value per channel, `[3, 1, 1]`, for broadcasting with `[b, 3, h, w]`."""
    return torch.tensor(values).view(3, 1, 1)


def standardise(x_bhw3: Tensor, mean_311: Tensor, std_311: Tensor) -> Tensor:
    """Normalise as `normalise` does, with mean and standard deviation as tensors."""
    x_b3hw = x_bhw3.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return x_b3hw.div_(255).sub_(mean_311).div_(std_311)


class BatchSplitter:
    """Splits images into batches that fit into the memory of the device.

    Args:
        max_batch: Largest number of images in a batch. It is halved, permanently, each time the
            device runs out of memory.
        on_shrink: Called with the new `max_batch`, to free buffers of larger batches.

    Raises:
        ValueError: `max_batch` is not positive.
    """

    def __init__(self, max_batch: int, *, on_shrink: Callable[[int], None] | None = None) -> None:
        if max_batch < 1:
            raise ValueError(f'max_batch={max_batch}: expected at least 1')
        self.max_batch = max_batch
        self._on_shrink = on_shrink

    def encode(
        self, images: Sequence[np.ndarray], encode: Callable[[Sequence[np.ndarray]], Tensor]
    ) -> Tensor:
        """Encode the batches one after the other and concatenate their tokens.

        Raises:
            EncoderError: The device has no memory for a single image.
        """
        batches: list[Tensor] = []
        start = 0
        while start < len(images):
            batch = images[start : start + self.max_batch]
            tokens_bnd = self.attempt(len(batch), lambda batch=batch: encode(batch))  # type: ignore[misc]
            if tokens_bnd is not None:
                batches.append(tokens_bnd)
                start += len(batch)
        return batches[0] if len(batches) == 1 else torch.cat(batches)

    def attempt(self, size: int, work: Callable[[], Result]) -> Result | None:
        """Call `work`, which needs memory for `size` images.

        Returns:
            The result of `work`. None if the device ran out of memory; `max_batch` is then halved.

        Raises:
            EncoderError: The device ran out of memory, and `size` is 1.
        """
        try:
            return work()
        except torch.cuda.OutOfMemoryError as error:
            if size == 1:
                raise EncoderError(
                    'out of memory with a single image: stop other programs on the device, or '
                    f'choose a smaller backbone, a smaller image size or another device ({error})'
                ) from error
            reason = str(error).partition('\n')[0]
        # Free memory after the handler: the exception still refers to the tensors of the failed
        # call.
        self.max_batch = max(1, size // 2)
        _logger.warning(
            'out of memory with a batch of %d images; max_batch is now %d (%s)',
            *(size, self.max_batch, reason),
        )
        if self._on_shrink is not None:
            self._on_shrink(self.max_batch)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

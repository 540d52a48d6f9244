"""The encoder on a CUDA device: pinned uploads, everything else on the device, captured graphs."""

import copy
import logging
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from step_ros.encoders.base import MAX_BATCH, Batches, EncoderError, PixelBackbone, Precision
from step_ros.images.resize import cut_image, fitted_box, shrinks
from step_ros.model.backbone import Backbone

# ---- `fit_image` on any device: the same areas and weights as OpenCV's, as two matrix products.
#
# Scaling an image is a weighted mean along its rows and one along its columns. The weights
# depend on
# the sizes alone, so they are worked out once for each size of image that a camera sends.


class DeviceResize:
    """Scales cut images to the size that the encoder takes, on the device where they lie.

    Equal to `cv2.resize` as `fit_image` calls it within 1 of 255 levels: OpenCV enlarges
    in fixed-point numbers.

    Args:
        shape: Height and width of the camera's images, before they are cut: they decide how.
        cut: Height and width of what is left of them, see `cut_image`.
        size: Height and width that the encoder takes.
        device: Where the images lie.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        cut: tuple[int, int],
        size: tuple[int, int],
        device: torch.device,
    ) -> None:
        weights = area_weights if shrinks(shape, size) else linear_weights
        self._same = cut == size
        self._halves = cut == (2 * size[0], 2 * size[1])
        self._rows = weights(cut[0], size[0]).to(device)
        self._columns = weights(cut[1], size[1]).t().contiguous().to(device)

    def __call__(self, x_bhw3: Tensor) -> Tensor:
        """Scale uint8 images `[b, h, w, 3]` of shape `cut`."""
        if self._same:
            return x_bhw3
        height, width = x_bhw3.shape[1:3]
        x_bhx = x_bhw3.view(-1, height, width * 3).to(torch.float32)
        x_bhw3 = torch.matmul(self._rows, x_bhx).view(len(x_bhx), -1, width, 3)
        x_bh3w = torch.matmul(x_bhw3.transpose(-1, -2), self._columns)
        x_bhw3 = x_bh3w.transpose(-1, -2)
        # OpenCV rounds ties up when it halves an image, else to the even number.
        x_bhw3 = x_bhw3.add_(0.5).floor_() if self._halves else x_bhw3.round_()
        return x_bhw3.clamp_(0, 255).to(torch.uint8)


def area_weights(given: int, wanted: int) -> Tensor:
    """Return the share of each given pixel in each wanted one, `[wanted, given]`: its overlap."""
    edges = np.arange(wanted + 1) * (given / wanted)
    pixels = np.arange(given)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = np.clip(overlap, 0, None)
    return torch.from_numpy(shares / shares.sum(axis=1, keepdims=True)).to(torch.float32)


def linear_weights(given: int, wanted: int) -> Tensor:
    """Return what the two given pixels beside the centre of a wanted one count in it."""
    centres = np.clip((np.arange(wanted) + 0.5) * (given / wanted) - 0.5, 0, given - 1)
    distance = np.abs(centres[:, None] - np.arange(given))
    return torch.from_numpy(np.clip(1 - distance, 0, None)).to(torch.float32)


# Sizes of camera images for which buffers are kept; beyond, those longest unused make room.
MOST_SOURCES = 8

# Passes before a graph is captured: libraries choose their kernels in the first ones.
WARM_UP = 3

_logger = logging.getLogger(__name__)


class CudaEncoder:
    """The backbone on a CUDA device, at a few fixed batch sizes.

    Only the part of an image that the encoder sees is uploaded, from pinned memory and while the
    processor goes on; resizing, normalising and the backbone run on the device. Each batch size
    (`batch_sizes`) is captured once as a CUDA graph; a batch is padded to the next one. Attention
    is torch's scaled dot product attention, as timm calls it.

    The backbone given is left alone: the device gets a copy, whose matrices are kept in the
    precision they are used in.

    Args:
        backbone: The frozen encoder.
        device: A CUDA device; or the processor, for tests, where nothing is pinned or captured.
        max_batch: Most images in one forward pass; halved when memory runs out.
        precision: Of matrix products; the residual stream stays in float32.
    """

    runtime = 'torch'
    variant = ''

    def __init__(
        self,
        backbone: Backbone,
        *,
        device: torch.device,
        max_batch: int = MAX_BATCH,
        precision: Precision = 'bfloat16',
    ) -> None:
        self.device = device
        self.precision = precision
        self._pixels = _copy_to(backbone, device, precision)
        self._sources: dict[tuple[int, int], _Source] = {}
        self._graphs: dict[int, _Graph] = {}
        self._batches = Batches(max_batch, on_shrink=self._let_go)
        self._input_bhw3 = torch.empty(0)
        self._prepare()
        self.description = f'torch on {device}{_name(device)}, {precision}, ' + (
            f'CUDA graphs for batches of {", ".join(map(str, sorted(self._graphs)))}'
            if self._graphs
            else 'without CUDA graphs'
        )

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Encode images of any size, uint8 RGB `[h, w, 3]`, into float32 tokens `[b, n, d]`.

        Returns at once: the tokens are there when the device has come so far.

        Raises:
            EncoderError: The device has no memory for a single image.
        """
        return self._batches.run(images, self._encode)

    def _encode(self, images: Sequence[np.ndarray]) -> Tensor:
        order = self._load(images)
        tokens_bnd = self._forward(len(images))
        if order == sorted(order):
            return tokens_bnd
        rows = {image: row for row, image in enumerate(order)}
        return torch.stack([tokens_bnd[rows[image]] for image in range(len(images))])

    def _load(self, images: Sequence[np.ndarray]) -> list[int]:
        """Bring images to the input, those of one size side by side; return their order there."""
        order = sorted(range(len(images)), key=lambda index: images[index].shape)
        row = 0
        for shape, indices in groupby(order, key=lambda index: images[index].shape):
            group = [images[index] for index in indices]
            source = self._source((shape[0], shape[1]), len(group))
            self._input_bhw3[row : row + len(group)] = source.fit(group)
            row += len(group)
        return order

    def _source(self, shape: tuple[int, int], images: int) -> '_Source':
        source = self._sources.pop(shape, None)
        if source is None or source.most < images:
            if len(self._sources) == MOST_SOURCES:
                del self._sources[next(iter(self._sources))]
            most = next(size for size in batch_sizes(self._batches.most) if size >= images)
            size = self._pixels.image_size
            source = _Source(shape, size=size, most=most, device=self.device)
        self._sources[shape] = source  # now the one used last
        return source

    def _forward(self, batch: int) -> Tensor:
        """Encode the first images of the input; the result is the caller's."""
        size = next((size for size in sorted(self._graphs) if size >= batch), None)
        if size is None:
            tokens_bnd: Tensor = self._pixels(self._input_bhw3[:batch])
            return tokens_bnd
        # The next replay writes where this one wrote.
        return self._graphs[size].replay()[:batch].clone()

    @torch.inference_mode()
    def _prepare(self) -> None:
        """Take all memory now, and capture a graph of each batch size, the largest first."""
        pool = torch.cuda.graph_pool_handle() if self.device.type == 'cuda' else None
        for size in reversed(batch_sizes(self._batches.most)):
            if size > self._batches.most:
                continue  # there was no memory for a larger one
            if self._batches.attempt(size, lambda size=size: self._try(size)) is None:  # type: ignore[misc]
                continue
            if pool is None or not self._capture(size, pool):
                break
        if pool is not None:
            torch.cuda.empty_cache()  # what passes outside of the graphs took

    def _try(self, size: int) -> Tensor:
        """Run a batch of this size; raises where there is no memory for it."""
        if len(self._input_bhw3) < size:
            shape = (size, *self._pixels.image_size, 3)
            self._input_bhw3 = torch.zeros(shape, dtype=torch.uint8, device=self.device)
        tokens_bnd: Tensor = self._pixels(self._input_bhw3[:size])
        return tokens_bnd

    def _capture(self, size: int, pool: Any) -> bool:
        """Capture a graph of this batch size; say whether that worked."""
        try:
            graph = self._batches.attempt(
                size, lambda: _Graph(self._pixels, self._input_bhw3[:size], pool)
            )
        except EncoderError:
            raise
        except RuntimeError as error:
            _logger.warning('the encoder runs without CUDA graphs, slower: %s', error)
            self._graphs.clear()
            return False
        if graph is not None:
            self._graphs[size] = graph
        return True

    def _let_go(self, most: int) -> None:
        """Free what only batches of more than `most` images want."""
        self._sources.clear()
        self._graphs = {size: graph for size, graph in self._graphs.items() if size <= most}


class _Graph:
    """One captured forward pass at a fixed batch size.

    Args:
        pixels: What is captured.
        input_bhw3: Where it reads, at every replay.
        pool: Memory that all graphs share; they never run at the same time.
    """

    def __init__(self, pixels: PixelBackbone, input_bhw3: Tensor, pool: Any) -> None:
        device = input_bhw3.device
        with torch.cuda.device(device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    pixels(input_bhw3)
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads of the process may use the device meanwhile.
            with torch.cuda.graph(
                self._graph, pool=pool, stream=side, capture_error_mode='thread_local'
            ):
                self._tokens_bnd: Tensor = pixels(input_bhw3)

    def replay(self) -> Tensor:
        """Run it; the tokens are overwritten by the next replay of any graph."""
        self._graph.replay()
        return self._tokens_bnd


class _Source:
    """What one size of camera image takes on its way: pinned memory, the device's copy, the scale.

    Args:
        shape: Height and width of the camera's images.
        size: Height and width that the encoder takes.
        most: Images at a time.
        device: Where to.
    """

    def __init__(
        self, shape: tuple[int, int], *, size: tuple[int, int], most: int, device: torch.device
    ) -> None:
        self.most = most
        self._size = size
        cut = fitted_box(shape, size)[2:]
        cuda = device.type == 'cuda'
        self._host_bhw3 = torch.empty((most, *cut, 3), dtype=torch.uint8, pin_memory=cuda)
        self._pixels_bhw3 = self._host_bhw3.numpy()
        self._device_bhw3 = torch.empty((most, *cut, 3), dtype=torch.uint8, device=device)
        self._uploaded = torch.cuda.Event() if cuda else None  # type: ignore[no-untyped-call]
        self._resize = DeviceResize(shape, cut=cut, size=size, device=device)

    def fit(self, images: Sequence[np.ndarray]) -> Tensor:
        """Upload images of this size and scale them, uint8 `[b, h, w, 3]`."""
        if self._uploaded is not None:
            self._uploaded.synchronize()  # the images before have left the pinned memory
        for pixels_hw3, image_hw3 in zip(self._pixels_bhw3, images, strict=False):
            pixels_hw3[:] = cut_image(image_hw3, self._size)
        x_bhw3 = self._device_bhw3[: len(images)]
        x_bhw3.copy_(self._host_bhw3[: len(images)], non_blocking=True)
        if self._uploaded is not None:
            self._uploaded.record(torch.cuda.current_stream(x_bhw3.device))
        return self._resize(x_bhw3)


def batch_sizes(most: int) -> list[int]:
    """Return the batch sizes that are captured: powers of two below `most`, and `most`."""
    return [2**power for power in range((most - 1).bit_length())] + [most]


def _copy_to(backbone: Backbone, device: torch.device, precision: Precision) -> PixelBackbone:
    copied = copy.deepcopy(backbone)
    if precision != 'float32':
        # Autocast would cast them anew in every pass.
        for module in copied.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.to(getattr(torch, precision))
    return PixelBackbone(copied, precision=precision).to(device)


def _name(device: torch.device) -> str:
    return f' ({torch.cuda.get_device_name(device)})' if device.type == 'cuda' else ''

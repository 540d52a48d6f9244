# SPDX-License-Identifier: Apache-2.0
"""The encoder on a CUDA device: pinned uploads, resizing on the device, CUDA graphs.

`DeviceResize` scales images with the same areas and weights as OpenCV. Scaling is a weighted mean
along the rows and one along the columns: two matrix products. The weights depend only on the
sizes, so they are computed once for each size of camera image.
"""

import copy
import logging
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from step_ros.encoders.base import MAX_BATCH, BatchSplitter, EncoderError, PixelBackbone, Precision
from step_ros.images.resize import cut_image, fitted_box, shrinks
from step_ros.model.backbone import Backbone

# Shapes of camera images with buffers on the device; a further shape replaces the one that was
# unused for longest.
MAX_IMAGE_SHAPES = 8

# Forward passes before a capture, in which CUDA libraries choose their kernels.
WARM_UP = 3

_logger = logging.getLogger(__name__)


class CudaEncoder:
    """The backbone on a CUDA device, at a few fixed batch sizes.

    Only the part of an image that the encoder needs is uploaded, from pinned memory and without
    blocking the CPU. Resizing, normalising and the backbone run on the device. Each batch size
    (`batch_sizes`) is captured once as a CUDA graph; a batch is padded to the next larger size.
    Attention is torch's scaled dot product attention, as called by timm.

    The encoder copies the backbone, and keeps the matrices of the copy in `precision`.

    Args:
        backbone: The frozen encoder; it is not changed.
        device: A CUDA device, or the CPU for tests, without pinned memory and CUDA graphs.
        max_batch: Largest number of images in one forward pass; halved when memory runs out.
        precision: Precision of matrix products; the residual stream stays in float32.
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
        self._buffers: dict[tuple[int, int], _UploadBuffer] = {}
        self._graphs: dict[int, _Graph] = {}
        self._splitter = BatchSplitter(max_batch, on_shrink=self._free_larger_batches)
        self._input_bhw3 = torch.empty(0)
        self._prepare()
        self.description = f'torch on {device}{_device_name(device)}, {precision}, ' + (
            f'CUDA graphs for batches of {", ".join(map(str, sorted(self._graphs)))}'
            if self._graphs
            else 'without CUDA graphs'
        )

    @property
    def buffered_shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of camera images with buffers, longest unused first."""
        return tuple(self._buffers)

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Encode images of any size, uint8 RGB `[h, w, 3]`, into float32 tokens `[b, n, d]`.

        The call does not wait for the device: reading the tokens does.

        Raises:
            EncoderError: The device has no memory for a single image.
        """
        return self._splitter.encode(images, self._encode)

    def _encode(self, images: Sequence[np.ndarray]) -> Tensor:
        order = self._load_input(images)
        tokens_bnd = self._forward(len(images))
        if order == sorted(order):
            return tokens_bnd
        rows = {image: row for row, image in enumerate(order)}
        return torch.stack([tokens_bnd[rows[image]] for image in range(len(images))])

    def _load_input(self, images: Sequence[np.ndarray]) -> list[int]:
        """Upload images to the input of the backbone, grouped by shape.

        Returns:
            For each row of the input, the index of its image.
        """
        order = sorted(range(len(images)), key=lambda index: images[index].shape)
        row = 0
        for shape, indices in groupby(order, key=lambda index: images[index].shape):
            group = [images[index] for index in indices]
            buffer = self._upload_buffer((shape[0], shape[1]), len(group))
            self._input_bhw3[row : row + len(group)] = buffer.upload(group)
            row += len(group)
        return order

    def _upload_buffer(self, shape: tuple[int, int], images: int) -> '_UploadBuffer':
        """Return the buffer for this number of images of one shape; make it if needed."""
        buffer = self._buffers.pop(shape, None)
        if buffer is None or buffer.room < images:
            if len(self._buffers) == MAX_IMAGE_SHAPES:
                del self._buffers[next(iter(self._buffers))]
            room = next(size for size in batch_sizes(self._splitter.max_batch) if size >= images)
            size = self._pixels.image_size
            buffer = _UploadBuffer(shape, size=size, room=room, device=self.device)
        self._buffers[shape] = buffer  # at the end: the one used last
        return buffer

    def _forward(self, batch: int) -> Tensor:
        """Encode the first `batch` images of the input into new tensors."""
        size = next((size for size in sorted(self._graphs) if size >= batch), None)
        if size is None:
            tokens_bnd: Tensor = self._pixels(self._input_bhw3[:batch])
            return tokens_bnd
        # The next replay overwrites the tokens of this one.
        return self._graphs[size].replay()[:batch].clone()

    @torch.inference_mode()
    def _prepare(self) -> None:
        """Allocate all memory, and capture a graph of each batch size, the largest first."""
        pool = torch.cuda.graph_pool_handle() if self.device.type == 'cuda' else None
        for size in reversed(batch_sizes(self._splitter.max_batch)):
            if size > self._splitter.max_batch:
                continue  # a larger batch ran out of memory
            if self._splitter.attempt(size, lambda size=size: self._run_batch(size)) is None:  # type: ignore[misc]
                continue
            if pool is None or not self._capture(size, pool):
                break
        if pool is not None:
            torch.cuda.empty_cache()  # memory of the passes outside of the graphs

    def _run_batch(self, size: int) -> Tensor:
        """Encode a batch of this size; raise if memory runs out."""
        if len(self._input_bhw3) < size:
            shape = (size, *self._pixels.image_size, 3)
            self._input_bhw3 = torch.zeros(shape, dtype=torch.uint8, device=self.device)
        tokens_bnd: Tensor = self._pixels(self._input_bhw3[:size])
        return tokens_bnd

    def _capture(self, size: int, pool: Any) -> bool:
        """Capture a graph of this batch size; return whether the capture worked."""
        try:
            graph = self._splitter.attempt(
                size, lambda: _Graph(self._pixels, self._input_bhw3[:size], pool)
            )
        except EncoderError:
            raise
        except RuntimeError as error:
            _logger.warning(
                'CUDA graph capture failed; the encoder runs slower, without CUDA graphs: %s',
                error,
            )
            self._graphs.clear()
            return False
        if graph is not None:
            self._graphs[size] = graph
        return True

    def _free_larger_batches(self, max_batch: int) -> None:
        """Free the buffers, and the graphs of batches of more than `max_batch` images."""
        self._buffers.clear()
        self._graphs = {size: graph for size, graph in self._graphs.items() if size <= max_batch}


def batch_sizes(max_batch: int) -> list[int]:
    """Return the batch sizes to capture: the powers of two below `max_batch`, and `max_batch`."""
    return [2**power for power in range((max_batch - 1).bit_length())] + [max_batch]


def _copy_to(backbone: Backbone, device: torch.device, precision: Precision) -> PixelBackbone:
    copied = copy.deepcopy(backbone)
    if precision != 'float32':
        # Autocast would otherwise cast the weights in every pass.
        for module in copied.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.to(getattr(torch, precision))
    return PixelBackbone(copied, precision=precision).to(device)


def _device_name(device: torch.device) -> str:
    return f' ({torch.cuda.get_device_name(device)})' if device.type == 'cuda' else ''


class _Graph:
    """One captured forward pass at a fixed batch size.

    Args:
        pixels: The module to capture.
        input_bhw3: The images that every replay reads.
        pool: Memory pool that all graphs share; they never run at the same time.
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
            # Other threads of the process may use the device during the capture.
            with torch.cuda.graph(
                self._graph, pool=pool, stream=side, capture_error_mode='thread_local'
            ):
                self._tokens_bnd: Tensor = pixels(input_bhw3)

    def replay(self) -> Tensor:
        """Run the graph and return its tokens, which the next replay of any graph overwrites."""
        self._graph.replay()
        return self._tokens_bnd


class _UploadBuffer:
    """Buffers for camera images of one shape: pinned memory, memory on the device, and scaling.

    Args:
        shape: Height and width of the camera images.
        size: Height and width of the encoder's input.
        room: Number of images that fit into the buffers.
        device: Device of the encoder.
    """

    def __init__(
        self, shape: tuple[int, int], *, size: tuple[int, int], room: int, device: torch.device
    ) -> None:
        self.room = room
        self._size = size
        cut = fitted_box(shape, size)[2:]
        cuda = device.type == 'cuda'
        self._host_bhw3 = torch.empty((room, *cut, 3), dtype=torch.uint8, pin_memory=cuda)
        self._pixels_bhw3 = self._host_bhw3.numpy()
        self._device_bhw3 = torch.empty((room, *cut, 3), dtype=torch.uint8, device=device)
        self._uploaded = torch.cuda.Event() if cuda else None  # type: ignore[no-untyped-call]
        self._resize = DeviceResize(shape, cut=cut, size=size, device=device)

    def upload(self, images: Sequence[np.ndarray]) -> Tensor:
        """Upload images of this shape and scale them to the encoder's size, `[b, h, w, 3]`."""
        if self._uploaded is not None:
            self._uploaded.synchronize()  # the last upload may still read the pinned memory
        for pixels_hw3, image_hw3 in zip(self._pixels_bhw3, images, strict=False):
            pixels_hw3[:] = cut_image(image_hw3, self._size)
        x_bhw3 = self._device_bhw3[: len(images)]
        x_bhw3.copy_(self._host_bhw3[: len(images)], non_blocking=True)
        if self._uploaded is not None:
            self._uploaded.record(torch.cuda.current_stream(x_bhw3.device))
        return self._resize(x_bhw3)


class DeviceResize:
    """Scales cropped images to the encoder's size, on the device of the images.

    The result differs from `fit_image` (`cv2.resize`) by at most 1 of 255 levels, because OpenCV
    enlarges in fixed-point numbers.

    Args:
        shape: Height and width of the camera images before cropping. They select the weights:
            areas for shrinking, else linear.
        cut: Height and width after cropping (`cut_image`).
        size: Height and width of the encoder's input.
        device: Device of the images.
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
        # OpenCV rounds ties up when it halves an image, and to the even number otherwise.
        x_bhw3 = x_bhw3.add_(0.5).floor_() if self._halves else x_bhw3.round_()
        return x_bhw3.clamp_(0, 255).to(torch.uint8)


def area_weights(given: int, wanted: int) -> Tensor:
    """Return the weights for shrinking, `[wanted, given]`: the overlap of each pair of pixels.

    Args:
        given: Pixels along one side of the image before scaling.
        wanted: Pixels along this side afterwards.
    """
    edges = np.arange(wanted + 1) * (given / wanted)
    pixels = np.arange(given)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = np.clip(overlap, 0, None)
    return torch.from_numpy(shares / shares.sum(axis=1, keepdims=True)).to(torch.float32)


def linear_weights(given: int, wanted: int) -> Tensor:
    """Return the weights for linear interpolation, `[wanted, given]`.

    Args:
        given: Pixels along one side of the image before scaling.
        wanted: Pixels along this side afterwards.
    """
    centres = np.clip((np.arange(wanted) + 0.5) * (given / wanted) - 0.5, 0, given - 1)
    distance = np.abs(centres[:, None] - np.arange(given))
    return torch.from_numpy(np.clip(1 - distance, 0, None)).to(torch.float32)

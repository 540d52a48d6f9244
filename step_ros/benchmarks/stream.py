# SPDX-License-Identifier: Apache-2.0
"""Benchmark of streaming: a hypothesis from one new frame against one from the whole clip."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from step_ros.encoders.base import Encoder
from step_ros.model.backbone import create_backbone
from step_ros.model.bundle import Bundle, create_heads, save_bundle
from step_ros.model.bundle_schema import HeadsSpec, TaskSpec
from step_ros.model.multitask import MultiTaskModel
from step_ros.reporting.markdown import figures_table
from step_ros.streaming.attention_cache.storage import MEMORY_BUDGET
from step_ros.streaming.frame import Frame
from step_ros.streaming.recogniser import StreamingRecogniser

COLUMNS = (
    *('backbone', 'tasks', 'naive_ms', 'stream_ms', 'ratio', 'backbone_ms'),
    *('plain_heads_ms', 'stream_heads_ms', 'max_abs_diff'),
)


@dataclass(frozen=True, kw_only=True)
class StreamTimes:
    """Times of one bundle, each the median over turns, in milliseconds.

    Attributes:
        backbone: timm's name of the architecture.
        tasks: Number of tasks.
        naive_ms: Time for a hypothesis of each camera from a whole clip: encode T frames, run the
            heads on the window.
        stream_ms: Time for a hypothesis of each camera from one new frame, by the streaming
            recogniser.
        ratio: `naive_ms` over `stream_ms`.
        backbone_ms: Time of the backbone for one frame of each camera.
        plain_heads_ms: Time of the plain heads on a window of cached tokens.
        stream_heads_ms: Time of the streaming heads from one new frame's tokens.
        max_abs_diff: Greatest absolute difference of a logit between plain and streaming heads.
        details: Configuration, digests, memory and the times of all turns.
    """

    backbone: str
    tasks: int
    naive_ms: float
    stream_ms: float
    ratio: float
    backbone_ms: float
    plain_heads_ms: float
    stream_heads_ms: float
    max_abs_diff: float
    details: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON."""
        return asdict(self)


def stream_table(rows: Sequence[StreamTimes]) -> str:
    """Return the rows as a Markdown table."""
    return figures_table(
        COLUMNS,
        [
            [
                row.backbone,
                str(row.tasks),
                *(f'{value:.1f}' for value in (row.naive_ms, row.stream_ms)),
                f'{row.ratio:.1f}',
                *(f'{v:.1f}' for v in (row.backbone_ms, row.plain_heads_ms, row.stream_heads_ms)),
                f'{row.max_abs_diff:.0e}',
            ]
            for row in rows
        ],
    )


Result = TypeVar('Result')

# Labels per task of a random bundle: the number of fine-grained activities in Drive&Act.
LABELS = 34

# Seconds between two frames of a random bundle.
FRAME_PERIOD = 0.2

# Turns that are not counted.
WARM_UP = 2


def random_bundle(
    backbone: str,
    *,
    tasks: int,
    frames: int,
    image_size: tuple[int, int] | None,
    token_grid: tuple[int, int] | None = None,
    folder: Path,
) -> Bundle:
    """Return a bundle with random weights; they do not change its times.

    Args:
        backbone: timm's name of the architecture.
        tasks: Number of tasks.
        frames: Frames in a window.
        image_size: Height and width in pixels; None for the architecture's own.
        token_grid: Rows and columns onto which patch tokens are averaged; None: one per patch.
        folder: Folder to write; the backbone's weights are not written.

    Raises:
        ValueError: The backbone is unknown, the token grid does not divide its patches, or there
            is no task.
    """
    if tasks < 1:
        raise ValueError(f'tasks={tasks}: expected at least 1')
    labels = tuple(f'label {index}' for index in range(LABELS))
    specs = tuple(TaskSpec(name=f'task{index}', labels=labels) for index in range(tasks))
    encoder = create_backbone(
        backbone, weights='random', image_size=image_size, token_grid=token_grid
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = create_heads(
            HeadsSpec(digest='sha256:' + 64 * '0'),
            specs,
            width=encoder.width,
            frames=frames,
            tokens=encoder.tokens,
        )
    return save_bundle(
        folder,
        MultiTaskModel(encoder, heads),
        name=f'random {backbone}',
        frame_period=FRAME_PERIOD,
        tasks=specs,
        backbone_weights='random',
    )


def random_bundles(
    backbones: Iterable[str],
    *,
    tasks: Iterable[int],
    frames: int = 16,
    image_size: tuple[int, int] | None = (224, 224),
    token_grid: tuple[int, int] | None = None,
) -> Iterator[Bundle]:
    """Yield a random bundle for each backbone and number of tasks, one after the other."""
    counts = list(tasks)
    for backbone in backbones:
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                yield random_bundle(
                    backbone,
                    tasks=count,
                    frames=frames,
                    image_size=image_size,
                    token_grid=token_grid,
                    folder=Path(folder) / 'bundle',
                )


class StreamBenchmark:
    """Times whole clips and the stream alternately, on images of noise.

    A turn brings one new frame of each camera and measures each kind once.

    Args:
        bundle: The model.
        encoder: Runs the bundle's backbone, for both.
        cameras: Number of cameras.
        order_evidence: Whether both run the heads on the reversed window, too, as the node does.
        memory_budget: As for `StreamingRecogniser`.

    Raises:
        ValueError: There is no camera.
    """

    def __init__(
        self,
        bundle: Bundle,
        encoder: Encoder,
        *,
        cameras: int = 1,
        order_evidence: bool = True,
        memory_budget: int = MEMORY_BUDGET,
    ) -> None:
        if cameras < 1:
            raise ValueError(f'cameras={cameras}: expected at least 1')
        self._bundle = bundle
        self._encoder = encoder
        self._order_evidence = order_evidence
        self._recogniser = StreamingRecogniser(
            bundle,
            encoder,
            order_evidence=order_evidence,
            memory_budget=memory_budget,
        )
        self._random = np.random.default_rng(0)
        self._images: dict[str, list[np.ndarray]] = {
            f'camera {number}': [] for number in range(cameras)
        }
        self._stamp_ns = 1_000_000_000
        self._times: dict[str, list[float]] = {}
        self._difference = 0.0

    @torch.inference_mode()
    def run(self, turns: int) -> StreamTimes:
        """Fill the windows, warm up, and return the times of some turns.

        Args:
            turns: Number of measurements of each kind.

        Raises:
            ValueError: `turns` is less than 1, or the heads do not stream.
        """
        if turns < 1:
            raise ValueError(f'turns={turns}: expected at least 1')
        if self._recogniser.not_streaming_reason:
            raise ValueError(f'nothing to compare: {self._recogniser.not_streaming_reason}')
        for _ in range(self._bundle.spec.frames - 1):
            self._recogniser.process(self._next_frames())
        for turn in range(WARM_UP + turns):
            if turn == WARM_UP:
                self._times.clear()
            self._measure_turn()
        return self._stream_times()

    def _measure_turn(self) -> None:
        frames = self._next_frames()
        hypotheses = self._timed('stream', lambda: self._recogniser.process(frames))
        assert len(hypotheses) == len(frames)
        clips = [image for images in self._images.values() for image in images]
        newest = [images[-1] for images in self._images.values()]
        self._timed('naive', lambda: self._plain_logits(self._encoder.encode(clips)))
        new_cnd = self._timed('backbone', lambda: self._encoder.encode(newest))
        tokens_lnd = self._encoder.encode(clips)
        plain = self._timed('plain_heads', lambda: self._plain_logits(tokens_lnd))
        streamed = self._timed('stream_heads', lambda: self._stream_logits(new_cnd))
        for task in plain:
            difference = float((plain[task] - streamed[task]).abs().max())
            self._difference = max(self._difference, difference)

    def _plain_logits(self, tokens_lnd: Tensor) -> dict[str, Tensor]:
        """Return the plain heads' logits by task, `[orders, cameras, k]`, of all windows."""
        model = self._bundle.model
        x_ctnd = tokens_lnd.view(len(self._images), -1, *tokens_lnd.shape[1:])
        logits = [model.predict(x_ctnd)]
        if self._order_evidence:
            logits.append(model.predict(x_ctnd.flip(dims=(1,))))
        return {task: torch.stack([each[task] for each in logits]) for task in logits[0]}

    def _stream_logits(self, tokens_cnd: Tensor) -> dict[str, Tensor]:
        """Return the streaming heads' logits by task, `[orders, cameras, k]`.

        The recogniser has already stored the newest frames of this turn. Storing their tokens once
        more in the same place repeats its work on the heads alone.
        """
        logits: list[dict[str, Tensor]] = []
        projected = None
        for index, camera in enumerate(self._images):
            stream = self._recogniser.cameras[camera]
            assert stream.cache is not None
            if projected is None:
                projected = stream.cache.heads.project(tokens_cnd)
            places = stream.window.places
            stream.cache.store_frame(places[-1], projected[index])
            orders = [places, places[::-1]] if self._order_evidence else [places]
            logits.append(stream.cache.logits(orders))
        return {task: torch.stack([each[task] for each in logits], dim=1) for task in logits[0]}

    def _next_frames(self) -> list[Frame]:
        spec = self._bundle.spec
        shape = (spec.image.height, spec.image.width, 3)
        self._stamp_ns += self._recogniser.settings.frame_period_ns
        frames = []
        for camera, images in self._images.items():
            image_hw3 = self._random.integers(0, 256, shape, dtype=np.uint8)
            self._images[camera] = [*images, image_hw3][-spec.frames :]
            frames.append(
                Frame(camera=camera, stamp_ns=self._stamp_ns, load=partial(_same, image_hw3))
            )
        return frames

    def _timed(self, name: str, work: Callable[[], Result]) -> Result:
        self._wait()
        started = time.perf_counter()
        result = work()
        self._wait()
        self._times.setdefault(name, []).append(1e3 * (time.perf_counter() - started))
        return result

    def _wait(self) -> None:
        if self._encoder.device.type == 'cuda':
            torch.cuda.synchronize(self._encoder.device)

    def _stream_times(self) -> StreamTimes:
        spec, backbone = self._bundle.spec, self._bundle.model.backbone
        cache = next(iter(self._recogniser.cameras.values())).cache
        assert cache is not None
        median = {name: float(np.median(times)) for name, times in self._times.items()}
        return StreamTimes(
            backbone=backbone.name,
            tasks=len(spec.tasks),
            naive_ms=median['naive'],
            stream_ms=median['stream'],
            ratio=median['naive'] / median['stream'],
            backbone_ms=median['backbone'],
            plain_heads_ms=median['plain_heads'],
            stream_heads_ms=median['stream_heads'],
            max_abs_diff=self._difference,
            details={
                'model_id': self._bundle.model_id,
                'runtime': self._encoder.description,
                'cameras': len(self._images),
                'backbone_digest': spec.backbone.digest,
                'heads_digest': spec.heads.digest,
                'frames': spec.frames,
                'image': [spec.image.height, spec.image.width],
                'token_grid': list(backbone.token_grid),
                'tokens_per_frame': backbone.tokens,
                'width': backbone.width,
                'attention_heads': cache.heads.groups // cache.heads.tasks,
                'order_evidence': self._order_evidence,
                'kept': cache.kept,
                'compiled': cache.compiled,
                'bytes_per_camera': cache.bytes,
                'bytes_per_camera_and_task': cache.bytes_per_task,
                'turns_ms': self._times,
            },
        )


def _same(image_hw3: np.ndarray) -> np.ndarray:
    return image_hw3

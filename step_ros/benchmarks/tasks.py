# SPDX-License-Identifier: Apache-2.0
"""Benchmark of several tasks: STEP's heads after one pass, or a pass through adapters per task.

Fig. 4 of the STEP paper counts operations. This benchmark measures time, on the same frames and
one view for both; the paper's figure for ST-Adapter counts three views. A third measurement is the
stream: one new frame instead of the clip. Weights are random, as time does not depend on them.
`tasks_table` and `plot_tasks` show the times.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from step_ros.benchmarks.stream import LABELS, random_bundles
from step_ros.encoders.base import TorchEncoder, normalise
from step_ros.model.backbone import create_backbone
from step_ros.model.bundle import Bundle
from step_ros.model.heads.registry import create_head
from step_ros.model.multitask import MultiTaskModel
from step_ros.model.peft.registry import insert_adapters
from step_ros.reporting.markdown import figures_table
from step_ros.streaming.attention_cache.storage import MEMORY_BUDGET
from step_ros.streaming.frame import Frame
from step_ros.streaming.recogniser import StreamingRecogniser

COLUMNS = ('tasks', 'st_adapter_ms', 'step_ms', 'stream_ms', 'ratio')

CAMERA = 'bench'

# Turns that are not counted.
WARM_UP = 1

# Legend and marker of each curve, in the order of the columns.
_MARKERS = {
    'ST-Adapter, a pass for each task': 'o',
    'STEP, one pass': 's',
    'STEP, streaming: one new frame': 'D',
}


@dataclass(frozen=True, kw_only=True)
class TasksTimes:
    """Times for a number of tasks, each the median over turns, in milliseconds.

    Attributes:
        tasks: Number of tasks.
        st_adapter_ms: Time of a clip with one pass through an ST-Adapter backbone per task.
        step_ms: Time of a clip with one pass through the frozen backbone and a STEP head per
            task.
        stream_ms: Time of one new frame of a stream, all tasks.
        details: Digests, format and size of the attention cache, and the times of all turns.
    """

    tasks: int
    st_adapter_ms: float
    step_ms: float
    stream_ms: float
    details: dict[str, Any]

    @property
    def ratio(self) -> float:
        """Time of a clip with adapters, relative to STEP."""
        return self.st_adapter_ms / self.step_ms

    def as_dict(self) -> dict[str, Any]:
        """Return all fields and the ratio, for JSON."""
        return {**asdict(self), 'ratio': self.ratio}


class TasksBenchmark:
    """Times adapters, STEP on a clip and STEP on a stream alternately.

    A turn brings one new frame and measures each kind once.

    Args:
        backbone: timm's name of the architecture.
        frames: Frames in a window.
        image_size: Height and width of the images in pixels.
        device: Device of all models.
        memory_budget: As for `StreamingRecogniser`.

    Attributes:
        adapted: The backbone with ST-Adapters and a linear head, which a task needs for itself.

    Raises:
        ValueError: The backbone is unknown or cannot be adapted.
    """

    def __init__(
        self,
        backbone: str,
        *,
        frames: int,
        image_size: tuple[int, int],
        device: torch.device,
        memory_budget: int = MEMORY_BUDGET,
    ) -> None:
        self._backbone, self._frames, self._image_size = backbone, frames, image_size
        self._device, self._memory_budget = device, memory_budget
        adapted = create_backbone(backbone, weights='random', image_size=image_size)
        insert_adapters(adapted, 'st-adapter', frames=frames)
        # As in the papers' tables: a linear head on the mean of the CLS tokens.
        linear = create_head(
            'linear', width=adapted.width, frames=frames, tokens=adapted.tokens, classes=LABELS
        )
        self.adapted = MultiTaskModel(adapted, {'task': linear}).to(device).eval()

    def run(self, tasks: Iterable[int], turns: int) -> Iterator[TasksTimes]:
        """Yield the times of each number of tasks, one after the other.

        Args:
            tasks: Numbers of tasks.
            turns: Number of measurements of each kind.

        Raises:
            ValueError: `turns` or a number of tasks is less than 1.
        """
        if turns < 1:
            raise ValueError(f'turns={turns}: expected at least 1')
        for bundle in random_bundles(
            [self._backbone], tasks=tasks, frames=self._frames, image_size=self._image_size
        ):
            yield self._measure(bundle, turns)

    @torch.inference_mode()
    def _measure(self, bundle: Bundle, turns: int) -> TasksTimes:
        recogniser = StreamingRecogniser(
            bundle,
            TorchEncoder(bundle.model.backbone, device=self._device),
            order_evidence=False,
            memory_budget=self._memory_budget,
        )
        images = _NoiseFrames(self._image_size, frames=self._frames)
        period_ns = recogniser.settings.frame_period_ns
        for _ in range(self._frames):
            recogniser.process([images.next_frame(period_ns)])
        passes: dict[str, Callable[[], object]] = {
            'st_adapter': lambda: self._adapter_logits(
                images.clip_t3hw(bundle, self._device), bundle
            ),
            'step': lambda: bundle.model(images.clip_t3hw(bundle, self._device)[None]),
            'stream': lambda: recogniser.process([images.newest]),
        }
        times: dict[str, list[float]] = {name: [] for name in passes}
        for turn in range(WARM_UP + turns):
            images.next_frame(period_ns)
            for name, work in passes.items():
                took_ms = self._timed(work)
                if turn >= WARM_UP:
                    times[name].append(took_ms)
        cache = recogniser.cameras[CAMERA].cache
        return TasksTimes(
            tasks=len(bundle.spec.tasks),
            **{f'{name}_ms': float(np.median(took)) for name, took in times.items()},
            details={
                'model_id': bundle.model_id,
                'heads_digest': bundle.spec.heads.digest,
                'kept': cache.kept if cache is not None else recogniser.not_streaming_reason,
                'bytes_per_camera': cache.bytes if cache is not None else 0,
                'turns_ms': times,
            },
        )

    def _adapter_logits(self, x_t3hw: Tensor, bundle: Bundle) -> list[dict[str, Tensor]]:
        """Return the logits of each task from a pass of its own.

        All passes use the same adapters: other weights would take the same time.
        """
        return [self.adapted(x_t3hw[None]) for _ in bundle.spec.tasks]

    def _timed(self, work: Callable[[], object]) -> float:
        self._wait()
        started = time.perf_counter()
        work()
        self._wait()
        return 1e3 * (time.perf_counter() - started)

    def _wait(self) -> None:
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)


class _NoiseFrames:
    """A stream of noise images that keeps the newest ones as a clip."""

    def __init__(self, image_size: tuple[int, int], *, frames: int) -> None:
        self._shape, self._length = (*image_size, 3), frames
        self._random = np.random.default_rng(0)
        self._images: list[np.ndarray] = []
        self._stamp_ns = 1

    def next_frame(self, period_ns: int) -> Frame:
        """Add a new frame and return it."""
        image_hw3 = self._random.integers(0, 256, self._shape, dtype=np.uint8)
        self._images = [*self._images, image_hw3][-self._length :]
        self._stamp_ns += period_ns
        return self.newest

    @property
    def newest(self) -> Frame:
        """The newest frame."""
        image_hw3 = self._images[-1]
        return Frame(camera=CAMERA, stamp_ns=self._stamp_ns, load=lambda: image_hw3)

    def clip_t3hw(self, bundle: Bundle, device: torch.device) -> Tensor:
        """Return the newest frames as the backbone takes them, `[t, 3, h, w]`."""
        backbone = bundle.model.backbone
        x_thw3 = torch.from_numpy(np.stack(self._images)).to(device)
        return normalise(x_thw3, mean=backbone.mean, std=backbone.std)


def tasks_table(rows: Sequence[TasksTimes]) -> str:
    """Return the rows as a Markdown table."""
    return figures_table(
        COLUMNS,
        [
            [
                str(row.tasks),
                *(f'{value:.1f}' for value in (row.st_adapter_ms, row.step_ms, row.stream_ms)),
                f'{row.ratio:.1f}',
            ]
            for row in rows
        ],
    )


def plot_tasks(path: Path, rows: Sequence[TasksTimes], *, title: str) -> None:
    """Draw time against the number of tasks, as Fig. 4 of the STEP paper draws operations.

    Args:
        path: Image file to write; its folder is made.
        rows: The times.
        title: Title of the plot: the model and its input.
    """
    figure = Figure(figsize=(7, 4.5), layout='constrained')
    axes = figure.subplots()
    tasks = [row.tasks for row in rows]
    columns = zip(*((row.st_adapter_ms, row.step_ms, row.stream_ms) for row in rows), strict=True)
    for (label, marker), times_ms in zip(_MARKERS.items(), columns, strict=True):
        axes.plot(tasks, [ms / 1e3 for ms in times_ms], marker=marker, label=label)
    axes.set_title(title)
    axes.set_xlabel('tasks')
    axes.set_xticks(tasks)
    axes.set_ylabel('seconds for the scores of all tasks')
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)

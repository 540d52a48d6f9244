# SPDX-License-Identifier: Apache-2.0
"""The streaming recogniser: frames of any number of cameras in, hypotheses out.

    frames -> grid of each camera -> encoder (one batch) -> windows -> heads -> hypotheses
              (CameraState)                                (Window,    (WindowClassifier)
                                                            attention cache)

The node, replay and benchmarks all drive `StreamingRecogniser`, so that a number measured offline
is the number on the robot. It has no threads and takes the time from the stamps; it reads a clock
only to measure what a frame costs.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from step_ros.encoders.base import Encoder
from step_ros.images.errors import FrameError
from step_ros.model.bundle import Bundle
from step_ros.model.heads.base import Head
from step_ros.model.tokens import tokens_per_frame
from step_ros.streaming.attention_cache.batch import CacheUpdate, apply_updates
from step_ros.streaming.attention_cache.cache import HeadCache
from step_ros.streaming.attention_cache.passes import find_native
from step_ros.streaming.attention_cache.stacked_heads import (
    StreamingHeads,
    find_not_streaming_reason,
)
from step_ros.streaming.attention_cache.storage import MEMORY_BUDGET, choose_kept
from step_ros.streaming.camera_state import CameraState
from step_ros.streaming.frame import Frame, FrameHeader, FrameProblem, GridFrame
from step_ros.streaming.grid import MAX_GAP_PERIODS, NANOSECONDS, GridSettings, Placement
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis, jensen_shannon, probabilities
from step_ros.streaming.timing import FrameTiming, Stopwatch
from step_ros.streaming.window import EncodedFrame, Window

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FullWindow:
    """A full window that is due for a hypothesis.

    Attributes:
        newest: Header of its newest frame.
        start_ns: Stamp of its oldest frame.
        tokens_tnd: The tokens of its frames, for plain heads; None with streaming heads.
    """

    newest: FrameHeader
    start_ns: int
    tokens_tnd: Tensor | None


class StreamingRecogniser:
    """Encodes each grid frame once and returns a hypothesis for each new grid frame.

    Streaming heads (`attention_cache.stacked_heads`) compute a frame's share in them once, too.
    Other heads run on the tokens of the whole window.

    Args:
        bundle: The model.
        encoder: Runs the bundle's backbone.
        order_tolerance: How far in seconds a frame may lag behind a newer one and still enter.
        max_gap: Longest time in seconds between two grid frames of one window; None for
            `MAX_GAP_PERIODS` frame periods.
        jump_back: If a frame lags this many seconds behind the newest one, time has jumped back.
        order_evidence: Whether to run the heads on the reversed window too.
        memory_budget: Bytes that the kept exponentials of one camera may take.
        streaming: Whether heads may stream; False runs them on whole windows, for comparison.

    Attributes:
        cameras: The state of each camera seen so far, by name.
        problems: Unusable frames of the last call of `process`.
        timing: What grid frames cost recently.
        not_streaming_reason: Why the heads run on whole windows; empty if they stream.

    Raises:
        ValueError: A time does not fit the bundle's frame period, or the budget is negative.
    """

    def __init__(
        self,
        bundle: Bundle,
        encoder: Encoder,
        *,
        order_tolerance: float = 0.0,
        max_gap: float | None = None,
        jump_back: float = 1.0,
        order_evidence: bool = True,
        memory_budget: int = MEMORY_BUDGET,
        streaming: bool = True,
    ) -> None:
        if memory_budget < 0:
            raise ValueError(f'memory_budget={memory_budget}: expected 0 or more bytes')
        self.bundle = bundle
        self.encoder = encoder
        self.order_evidence = order_evidence
        frame_period = bundle.spec.frame_period
        self.settings = GridSettings(
            frame_period_ns=round(frame_period * NANOSECONDS),
            order_tolerance_ns=round(order_tolerance * NANOSECONDS),
            max_gap_ns=round(
                (MAX_GAP_PERIODS * frame_period if max_gap is None else max_gap) * NANOSECONDS
            ),
            jump_ns=round(jump_back * NANOSECONDS),
        )
        self.cameras: dict[str, CameraState] = {}
        self.problems: list[FrameProblem] = []
        self.timing = FrameTiming()
        bundle.model.heads.to(encoder.device)
        heads = {task: head for task, head in bundle.model.heads.items() if isinstance(head, Head)}
        self.not_streaming_reason = (
            find_not_streaming_reason(heads) if streaming else 'streaming is switched off'
        )
        self._heads: StreamingHeads | None = None
        self._memory_budget = memory_budget
        if self.not_streaming_reason:
            _logger.info('heads run on whole windows: %s', self.not_streaming_reason)
        else:
            backbone = bundle.model.backbone
            self._heads = StreamingHeads(
                heads, tokens=tokens_per_frame(backbone.consumed, backbone.tokens)
            )
        self._classifier = WindowClassifier(bundle, self._heads, order_evidence=order_evidence)

    def prepare(self, camera: str) -> CameraState:
        """Return a camera's state; a new camera gets one, with all the memory it will need."""
        state = self.cameras.get(camera)
        if state is None:
            # On the CPU, resize images when they are loaded: that may run in another thread than
            # the encoder's. Other encoders resize their images themselves.
            size = self.bundle.model.backbone.image_size
            state = CameraState(
                self.bundle.spec.frames,
                self.settings,
                cache=self._cache(),
                image_size=size if self.encoder.device.type == 'cpu' else None,
            )
            self.cameras[camera] = state
            if state.cache is not None:
                _logger.info(
                    'camera %r: heads stream, exponentials kept: %s, %.1f MB a task',
                    camera,
                    state.cache.kept,
                    state.cache.bytes_per_task / 1e6,
                )
        return state

    def _cache(self) -> HeadCache | None:
        if self._heads is None:
            return None
        return HeadCache(
            self._heads,
            kept=choose_kept(self._heads, self._memory_budget),
            native=find_native() if self._heads.device.type == 'cpu' else None,
        )

    def reset(self) -> None:
        """Empty all windows, as before the first frame; the counters stay."""
        for state in self.cameras.values():
            state.reset()

    def process(self, frames: Sequence[Frame]) -> list[Hypothesis]:
        """Place, encode and recognise frames of one or many cameras, in the order of arrival.

        The grid frames are encoded in one batch. `problems` then lists the unusable frames.

        Returns:
            A hypothesis for each new grid frame that makes or keeps its camera's window full.
        """
        self.problems = []
        admitted: list[GridFrame] = []
        for frame in frames:
            try:
                on_grid = self.prepare(frame.camera).admit(frame)
            except FrameError as error:
                self.problems.append(
                    FrameProblem(camera=frame.camera, cause=error.cause, detail=str(error))
                )
                continue
            if on_grid is not None:
                admitted.append(on_grid)
        return self.recognise(admitted) if admitted else []

    def recognise(
        self, frames: Sequence[GridFrame], *, newest_only: bool = False
    ) -> list[Hypothesis]:
        """Encode grid frames in one batch, move the windows on and run the heads.

        Args:
            frames: At least one, each loaded by its camera's state, in the order of loading.
            newest_only: Whether to run the heads on the newest window of each camera only; the
                other windows are counted as `skipped_hypotheses`.

        Returns:
            A hypothesis for each new grid frame that makes or keeps its camera's window full.

        Raises:
            Exception: Any error of the model. The frames are counted as `failed`, and the caller
                must restart the windows.
        """
        whole, predicting = Stopwatch(), Stopwatch()
        try:
            with whole:
                tokens_bnd = self.encoder.encode([frame.seen_hw3 for frame in frames])
                windows, attended = self._advance(frames, tokens_bnd, newest_only, predicting)
                with predicting:
                    hypotheses = self._classifier.predict(windows, attended) if windows else []
        except Exception:
            for frame in frames:
                self.cameras[frame.camera].counts['failed'] += 1
            raise
        for frame in frames:
            self.cameras[frame.camera].counts[frame.placement.value] += 1
        # A GPU runs asynchronously, so that a clock here cannot tell heads from encoder: there
        # all time counts as encoding.
        predict_ns = predicting.ns if self.encoder.device.type == 'cpu' else 0
        self.timing.add_batch(
            frames=len(frames),
            encode_ns=whole.ns - predict_ns,
            windows=len(windows),
            predict_ns=predict_ns,
        )
        return hypotheses

    @torch.inference_mode()
    def _advance(
        self,
        frames: Sequence[GridFrame],
        tokens_bnd: Tensor,
        newest_only: bool,
        predicting: Stopwatch,
    ) -> tuple[list[FullWindow], list[Tensor]]:
        """Put frames into their windows and attention caches, in order.

        Returns:
            The windows to classify, each as its frame left it, and the attended values of
            streaming heads for each of them.
        """
        windows: list[FullWindow] = []
        updates: list[CacheUpdate] = []
        newest = {frame.camera: frame for frame in frames if frame.placement.opens_slot}
        shares = [None] * len(frames) if self._heads is None else self._heads.project(tokens_bnd)
        for frame, tokens_nd, share in zip(frames, tokens_bnd, shares, strict=True):
            state = self.cameras[frame.camera]
            window = state.window
            if frame.placement.restarts:
                window.clear()
            elif frame.placement is Placement.NEW:
                state.counts['missed_slots'] += frame.slot - window.newest.slot - 1
            elif not window.holds(frame.slot):
                # A late frame fills a slot that was counted as missed.
                state.counts['missed_slots'] -= 1
            place = window.insert(
                EncodedFrame(
                    header=frame.header,
                    slot=frame.slot,
                    # Clone: a row of the batch would keep the memory of the whole batch.
                    tokens_nd=tokens_nd.clone() if state.cache is None else None,
                )
            )
            due = window.full and frame.placement.opens_slot
            if due and newest_only and frame is not newest[frame.camera]:
                state.counts['skipped_hypotheses'] += 1
                due = False
            if state.cache is not None and share is not None and place is not None:
                orders = self._orders(window) if due else []
                updates.append(
                    CacheUpdate(cache=state.cache, place=place, qkv_3gnc=share, orders=orders)
                )
            if due:
                windows.append(
                    FullWindow(
                        newest=frame.header,
                        start_ns=window.oldest.header.stamp_ns,
                        tokens_tnd=window.tokens_tnd() if state.cache is None else None,
                    )
                )
        return windows, apply_updates(updates, predicting) if updates else []

    def _orders(self, window: Window) -> list[tuple[int, ...]]:
        """Return the window's places oldest first, then reversed for the order evidence."""
        orders = [window.places, window.places[::-1]]
        return orders if self.order_evidence else orders[:1]


class WindowClassifier:
    """Runs the last layers of the heads and makes hypotheses of their logits.

    Args:
        bundle: The model.
        heads: Its streaming heads; None if the heads run on whole windows.
        order_evidence: Whether to run the heads on the reversed window too.
    """

    def __init__(
        self, bundle: Bundle, heads: StreamingHeads | None, *, order_evidence: bool
    ) -> None:
        self._bundle = bundle
        self._heads = heads
        self._order_evidence = order_evidence

    @torch.inference_mode()
    def predict(
        self, windows: Sequence[FullWindow], attended: Sequence[Tensor]
    ) -> list[Hypothesis]:
        """Return a hypothesis for each window.

        Args:
            windows: At least one.
            attended: The attended values of each window, `[v, g, c]`, for streaming heads:
                forwards, and reversed if order evidence is wanted. Plain heads use the windows'
                tokens instead.
        """
        logits = self._logits(windows, attended)
        tasks: list[list[TaskHypothesis]] = [[] for _ in windows]
        for spec in self._bundle.spec.tasks:
            logits_vbk = logits[spec.name]
            scores_bk = probabilities(logits_vbk[0], spec.temperature)
            evidence_b = np.full(len(windows), np.nan)
            if self._order_evidence:
                reversed_bk = probabilities(logits_vbk[1], spec.temperature)
                evidence_b = jensen_shannon(scores_bk, reversed_bk)
            for of_window, scores_k, evidence in zip(tasks, scores_bk, evidence_b, strict=True):
                of_window.append(
                    TaskHypothesis(spec=spec, scores_k=scores_k, order_evidence=float(evidence))
                )
        return [
            Hypothesis(
                camera=window.newest.camera,
                frame_id=window.newest.frame_id,
                stamp_ns=window.newest.stamp_ns,
                window_start_ns=window.start_ns,
                received_ns=window.newest.received_ns,
                tasks=tuple(of_window),
            )
            for window, of_window in zip(windows, tasks, strict=True)
        ]

    def _logits(
        self, windows: Sequence[FullWindow], attended: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Return the logits of each task, `[v, b, k]`: forwards, then reversed if wanted."""
        if self._heads is not None:
            # One matrix product for all windows in all orders. Stacking on dim 1 gives
            # [v, b, g, c], so that the rows of one order lie together.
            stacked = self._heads.classify(torch.stack(list(attended), dim=1).flatten(0, 1))
            size = (-1, len(windows))
            return {task: rows.reshape(*size, rows.shape[-1]) for task, rows in stacked.items()}
        x_btnd = torch.stack([each.tokens_tnd for each in windows if each.tokens_tnd is not None])
        orders = [self._bundle.model.predict(x_btnd)]
        if self._order_evidence:
            orders.append(self._bundle.model.predict(x_btnd.flip(dims=(1,))))
        return {task: torch.stack([each[task] for each in orders]) for task in orders[0]}

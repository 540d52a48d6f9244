"""The streaming recogniser: frames of any number of cameras in, hypotheses out.

The node, replay evaluation and benchmarks all drive this one class, so that a number measured
offline is the number on the robot. It knows no thread, and time is what the stamps say: it looks
at a clock only to say what a frame costs.
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
from step_ros.streaming.attention_cache.build import find_native
from step_ros.streaming.attention_cache.cache import HeadCache
from step_ros.streaming.attention_cache.stacked_heads import (
    StreamingHeads,
    find_not_streaming_reason,
)
from step_ros.streaming.attention_cache.storage import MEMORY_BUDGET, choose_kept
from step_ros.streaming.camera_state import CameraState
from step_ros.streaming.frame import Frame, FrameProblem, GridFrame
from step_ros.streaming.grid import NANOSECONDS, GridSettings, Placement
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis, jensen_shannon, probabilities
from step_ros.streaming.timing import FrameTiming, Stopwatch
from step_ros.streaming.window import EncodedFrame, Window

# ---- From windows to hypotheses: the heads' last layers, and what their logits say.


@dataclass(frozen=True, kw_only=True)
class FullWindow:
    """A window that wants a hypothesis.

    Attributes:
        camera: Name of the camera.
        newest: Its newest frame.
        start_ns: Stamp of its oldest frame.
        tokens_tnd: What plain heads will look at; None with streaming heads.
    """

    camera: str
    newest: EncodedFrame
    start_ns: int
    tokens_tnd: Tensor | None


class WindowClassifier:
    """Says what the windows of some cameras show.

    Args:
        bundle: The model.
        heads: Its heads taken apart; None where they run on whole windows.
        order_evidence: Whether the heads are run on the reversed window too.
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
            attended: What streaming heads attended to in each, `[v, g, c]`: forwards, and reversed
                if order evidence is asked for. Plain heads look at the windows' tokens instead.
        """
        logits = self._logits(windows, attended)
        answers: list[list[TaskHypothesis]] = [[] for _ in windows]
        for spec in self._bundle.spec.tasks:
            logits_vbk = logits[spec.name]
            scores_bk = probabilities(logits_vbk[0], spec.temperature)
            evidence_b = np.full(len(windows), np.nan)
            if self._order_evidence:
                reversed_bk = probabilities(logits_vbk[1], spec.temperature)
                evidence_b = jensen_shannon(scores_bk, reversed_bk)
            for answer, scores_k, evidence in zip(answers, scores_bk, evidence_b, strict=True):
                answer.append(
                    TaskHypothesis(spec=spec, scores_k=scores_k, order_evidence=float(evidence))
                )
        return [
            Hypothesis(
                camera=window.camera,
                frame_id=window.newest.frame_id,
                stamp_ns=window.newest.stamp_ns,
                window_start_ns=window.start_ns,
                received_ns=window.newest.received_ns,
                tasks=tuple(answer),
            )
            for window, answer in zip(windows, answers, strict=True)
        ]

    def _logits(
        self, windows: Sequence[FullWindow], attended: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Return the logits of each task, `[v, b, k]`: forwards, and reversed if asked for."""
        if self._heads is not None:
            # One matrix product for all windows in all their orders, those of one order together.
            answers = self._heads.classify(torch.stack(list(attended), dim=1).flatten(0, 1))
            size = (-1, len(windows))
            return {task: said.reshape(*size, said.shape[-1]) for task, said in answers.items()}
        x_btnd = torch.stack([each.tokens_tnd for each in windows if each.tokens_tnd is not None])
        ways = [self._bundle.model.predict(x_btnd)]
        if self._order_evidence:
            ways.append(self._bundle.model.predict(x_btnd.flip(dims=(1,))))
        return {task: torch.stack([each[task] for each in ways]) for task in ways[0]}


_logger = logging.getLogger(__name__)


class StreamingRecogniser:
    """Encodes each grid frame once and gives a hypothesis for each new grid frame.

    Heads that can be taken apart (`find_not_streaming_reason`) compute a frame's share in them
    once, too; others are run on the cached tokens of the whole window.

    Args:
        bundle: The model.
        encoder: Runs the bundle's backbone.
        order_tolerance: Seconds that a frame may come behind a newer one and still count.
        max_gap: Longest time in seconds between two grid frames of one window; None for two and a
            half frame periods.
        jump_back: Seconds behind the newest frame from which a stamp means that time jumped back.
        order_evidence: Whether to run the heads on the reversed window too.
        memory_budget: Bytes that the kept exponentials of one camera may take.
        streaming: Whether heads may be taken apart; False runs them on whole windows, for
            comparison.

    Attributes:
        cameras: The streams seen so far, by the camera's name.
        problems: Unusable frames of the last call of `process`.
        timing: What grid frames cost of late.
        not_streaming_reason: Why the heads are run on whole windows; empty where they stream.

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
            max_gap_ns=round((2.5 * frame_period if max_gap is None else max_gap) * NANOSECONDS),
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
        """Return a camera's stream; made, with all the memory it will need, if it is new."""
        stream = self.cameras.get(camera)
        if stream is None:
            # Frames are loaded in another thread, if there is one, than the encoder's.
            size = self.bundle.model.backbone.image_size
            stream = CameraState(
                self.bundle.spec.frames,
                self.settings,
                cache=self._cache(),
                image_size=size if self.encoder.device.type == 'cpu' else None,
            )
            self.cameras[camera] = stream
            if stream.cache is not None:
                _logger.info(
                    'camera %r: heads stream, exponentials kept: %s, %.1f MB a task',
                    camera,
                    stream.cache.kept,
                    stream.cache.bytes_per_task / 1e6,
                )
        return stream

    def _cache(self) -> HeadCache | None:
        if self._heads is None:
            return None
        return HeadCache(
            self._heads,
            kept=choose_kept(self._heads, self._memory_budget),
            native=find_native() if self._heads.device.type == 'cpu' else None,
        )

    def reset(self) -> None:
        """Empty all windows, as before the first frame; counters go on."""
        for stream in self.cameras.values():
            stream.reset()

    def process(self, frames: Sequence[Frame]) -> list[Hypothesis]:
        """Take frames, of one or many cameras, in the order in which they came.

        Frames on the grid are encoded in one batch. `problems` then lists the unusable ones.

        Returns:
            A hypothesis for each new grid frame that finds its camera's window full.
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
        """Encode frames on the grid in one batch, move the windows on and decide.

        Args:
            frames: At least one, each admitted by its camera's stream, in the order in which they
                were admitted.
            newest_only: Whether to decide on the newest window of each camera alone; the others
                are counted as `skipped_hypotheses`.

        Returns:
            A hypothesis for each new frame that finds its camera's window full.

        Raises:
            Exception: Whatever the model raises. The frames are counted as `failed`; the windows
                are to be restarted.
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
        # Other devices work on while we go on: there all counts as encoding.
        predict_ns = predicting.ns if self.encoder.device.type == 'cpu' else 0
        self.timing.add(
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
        """Move the windows on.

        Returns:
            Those to decide on, as each frame finds them, and what streaming heads attended to.
        """
        windows: list[FullWindow] = []
        turns: list[CacheUpdate] = []
        newest = {frame.camera: frame for frame in frames if frame.placement.opens_slot}
        shares = [None] * len(frames) if self._heads is None else self._heads.project(tokens_bnd)
        for frame, tokens_nd, share in zip(frames, tokens_bnd, shares, strict=True):
            stream = self.cameras[frame.camera]
            window = stream.window
            if frame.placement.restarts:
                window.clear()
            elif frame.placement is Placement.NEW:
                stream.counts['missed_slots'] += frame.slot - window.newest.slot - 1
            elif not window.holds(frame.slot):
                stream.counts['missed_slots'] -= 1  # a late frame fills it after all
            encoded = EncodedFrame(
                slot=frame.slot,
                stamp_ns=frame.stamp_ns,
                frame_id=frame.frame_id,
                received_ns=frame.received_ns,
                # A row of the batch would keep the whole batch alive.
                tokens_nd=tokens_nd.clone() if stream.cache is None else None,
            )
            place = window.insert(encoded)
            asked = window.full and frame.placement.opens_slot
            if asked and newest_only and frame is not newest[frame.camera]:
                stream.counts['skipped_hypotheses'] += 1
                asked = False
            if stream.cache is not None and share is not None and place is not None:
                orders = self._orders(window) if asked else []
                turns.append(
                    CacheUpdate(cache=stream.cache, place=place, qkv_3gnc=share, orders=orders)
                )
            if asked:
                windows.append(
                    FullWindow(
                        camera=frame.camera,
                        newest=encoded,
                        start_ns=window.oldest.stamp_ns,
                        tokens_tnd=window.tokens_tnd() if stream.cache is None else None,
                    )
                )
        return windows, apply_updates(turns, predicting) if turns else []

    def _orders(self, window: Window) -> list[tuple[int, ...]]:
        orders = [window.places, window.places[::-1]]
        return orders if self.order_evidence else orders[:1]

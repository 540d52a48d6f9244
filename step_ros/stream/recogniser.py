"""The streaming recogniser: frames of any number of cameras in, hypotheses out.

The node, replay evaluation and benchmarks all drive this one class, so that a number measured
offline is the number on the robot. It knows no clock and no thread: time is what the stamps say.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from step_ros.model.bundle import Bundle
from step_ros.stream.encoder import Encoder
from step_ros.stream.frame import Frame, FrameError
from step_ros.stream.grid import NANOSECONDS, FrameGrid, GridSettings, Placement
from step_ros.stream.hypothesis import Hypothesis, TaskHypothesis, jensen_shannon, probabilities
from step_ros.stream.window import EncodedFrame, Window


@dataclass(frozen=True, kw_only=True)
class FrameProblem:
    """A frame that was dropped because it cannot be used.

    Attributes:
        camera: Name of the camera.
        cause: One word, for counting.
        detail: What is wrong and what was expected.
    """

    camera: str
    cause: str
    detail: str


class CameraStream:
    """Grid, window and counters of one camera.

    Attributes:
        window: The newest grid frames.
        counts: Frames by what became of them: `received`, the values of `Placement`, causes of
            unusable frames, and `missed_slots` (slots inside a window that no frame filled).
    """

    def __init__(self, frames: int, settings: GridSettings) -> None:
        self.frames = frames
        self.grid = FrameGrid(settings)
        self.window = Window(frames)
        self.counts: Counter[str] = Counter()

    def reset(self) -> None:
        """Empty the window; counters go on."""
        self.grid.reset()
        self.window.clear()


class StreamingRecogniser:
    """Encodes each grid frame once and gives a hypothesis for each new grid frame.

    Args:
        bundle: The model.
        encoder: Runs the bundle's backbone.
        order_tolerance: Seconds that a frame may come behind a newer one and still count.
        max_gap: Longest time in seconds between two grid frames of one window; None for two and a
            half frame periods.
        jump_back: Seconds behind the newest frame from which a stamp means that time jumped back.
        order_evidence: Whether to run the heads on the reversed window too.

    Attributes:
        cameras: The streams seen so far, by the camera's name.
        problems: Unusable frames of the last call of `process`.

    Raises:
        ValueError: A time does not fit the bundle's frame period.
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
    ) -> None:
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
        self.cameras: dict[str, CameraStream] = {}
        self.problems: list[FrameProblem] = []
        bundle.model.heads.to(encoder.device)

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
        chosen: list[tuple[Frame, Placement, int]] = []
        images: list[np.ndarray] = []
        for frame in frames:
            image = self._admit(frame, chosen)
            if image is not None:
                images.append(image)
        if not chosen:
            return []
        tokens_bnd = self.encoder.encode(images)
        return self._decide(self._advance(chosen, tokens_bnd))

    def _admit(
        self, frame: Frame, chosen: list[tuple[Frame, Placement, int]]
    ) -> np.ndarray | None:
        stream = self.cameras.get(frame.camera)
        if stream is None:
            stream = CameraStream(self.bundle.spec.frames, self.settings)
            self.cameras[frame.camera] = stream
        stream.counts['received'] += 1
        if frame.stamp_ns <= 0:
            self._refuse(frame, 'zero_stamp', 'its header has no stamp; the driver must set one')
            return None
        placement, slot = stream.grid.place(frame.stamp_ns)
        image = None
        if placement.on_grid:
            try:
                image = frame.load()
            except FrameError as error:
                self._refuse(frame, error.cause, str(error))
                return None
            chosen.append((frame, placement, slot))
        stream.counts[placement.value] += 1
        if placement is not Placement.LATE:
            stream.grid.commit(placement, slot, frame.stamp_ns, keep=stream.frames)
        return image

    def _refuse(self, frame: Frame, cause: str, detail: str) -> None:
        self.cameras[frame.camera].counts[cause] += 1
        self.problems.append(FrameProblem(camera=frame.camera, cause=cause, detail=detail))

    def _advance(
        self, chosen: list[tuple[Frame, Placement, int]], tokens_bnd: Tensor
    ) -> list[tuple[str, EncodedFrame, int, Tensor]]:
        """Move the windows on; return camera, newest frame, start and tokens of full ones."""
        windows: list[tuple[str, EncodedFrame, int, Tensor]] = []
        for (frame, placement, slot), tokens_nd in zip(chosen, tokens_bnd, strict=True):
            stream = self.cameras[frame.camera]
            window = stream.window
            if placement.restarts:
                window.clear()
            elif placement is Placement.NEW:
                stream.counts['missed_slots'] += slot - window.newest.slot - 1
            elif not window.holds(slot):
                stream.counts['missed_slots'] -= 1  # a late frame fills it after all
            encoded = EncodedFrame(
                slot=slot,
                stamp_ns=frame.stamp_ns,
                frame_id=frame.frame_id,
                received_ns=frame.received_ns,
                # A row of the batch would keep the whole batch alive.
                tokens_nd=tokens_nd.clone(),
            )
            window.insert(encoded)
            if window.full and placement is not Placement.REORDERED:
                windows.append(
                    (frame.camera, encoded, window.oldest.stamp_ns, window.tokens_tnd())
                )
        return windows

    @torch.inference_mode()
    def _decide(self, windows: list[tuple[str, EncodedFrame, int, Tensor]]) -> list[Hypothesis]:
        if not windows:
            return []
        x_btnd = torch.stack([tokens_tnd for *_, tokens_tnd in windows])
        logits = self.bundle.model.decide(x_btnd)
        reversed_logits = (
            self.bundle.model.decide(x_btnd.flip(dims=(1,))) if self.order_evidence else {}
        )
        answers: list[list[TaskHypothesis]] = [[] for _ in windows]
        for spec in self.bundle.spec.tasks:
            scores_bk = probabilities(logits[spec.name], spec.temperature)
            evidence_b = np.full(len(windows), np.nan)
            if self.order_evidence:
                reversed_bk = probabilities(reversed_logits[spec.name], spec.temperature)
                evidence_b = jensen_shannon(scores_bk, reversed_bk)
            for answer, scores_k, evidence in zip(answers, scores_bk, evidence_b, strict=True):
                answer.append(
                    TaskHypothesis(spec=spec, scores_k=scores_k, order_evidence=float(evidence))
                )
        return [
            Hypothesis(
                camera=camera,
                frame_id=newest.frame_id,
                stamp_ns=newest.stamp_ns,
                window_start_ns=start_ns,
                received_ns=newest.received_ns,
                tasks=tuple(answer),
            )
            for (camera, newest, start_ns, _), answer in zip(windows, answers, strict=True)
        ]

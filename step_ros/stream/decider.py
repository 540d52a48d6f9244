"""From windows to hypotheses: the heads' last layers, and what their logits say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from step_ros.model.bundle import Bundle
from step_ros.stream.hypothesis import Hypothesis, TaskHypothesis, jensen_shannon, probabilities
from step_ros.stream.streaming_heads import StreamingHeads
from step_ros.stream.window import EncodedFrame


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


class Decider:
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
    def decide(
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
        ways = [self._bundle.model.decide(x_btnd)]
        if self._order_evidence:
            ways.append(self._bundle.model.decide(x_btnd.flip(dims=(1,))))
        return {task: torch.stack([each[task] for each in ways]) for task in ways[0]}

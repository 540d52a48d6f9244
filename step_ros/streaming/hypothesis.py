# SPDX-License-Identifier: Apache-2.0
"""Hypotheses: scores of all tasks for one window, computed from the heads' logits."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from step_ros.model.bundle_schema import TaskSpec


@dataclass(frozen=True, kw_only=True)
class TaskHypothesis:
    """Scores of one task for one window.

    Attributes:
        spec: The task.
        scores_k: Calibrated probabilities of all labels, in the bundle's order.
        order_evidence: Jensen-Shannon divergence, in [0, 1], between these scores and those of
            the reversed window; NaN if it was not computed.
    """

    spec: TaskSpec
    scores_k: np.ndarray
    order_evidence: float

    @cached_property
    def label(self) -> str:
        """The label with the highest score."""
        return self.spec.labels[int(self.scores_k.argmax())]

    @property
    def counterpart(self) -> str:
        """The nearly symmetric partner of the best label; empty if it has none."""
        return self.spec.counterparts.get(self.label, '')

    def score_of(self, label: str) -> float:
        """Return the probability of a label; 0 for the empty label."""
        return float(self.scores_k[self.spec.labels.index(label)]) if label else 0.0

    def top(self, count: int) -> list[tuple[str, float]]:
        """Return the best labels with their scores, best first."""
        best = np.argsort(-self.scores_k, kind='stable')[:count]
        return [(self.spec.labels[index], float(self.scores_k[index])) for index in best]


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """Scores of all tasks for one camera's window.

    Attributes:
        camera: Name of the camera.
        frame_id: Coordinate frame of the newest frame.
        stamp_ns: Stamp of the newest frame.
        window_start_ns: Stamp of the oldest frame.
        received_ns: When the newest frame arrived, in nanoseconds of the monotonic clock.
        tasks: The scores of each task, in the bundle's order.
    """

    camera: str
    frame_id: str
    stamp_ns: int
    window_start_ns: int
    received_ns: int
    tasks: tuple[TaskHypothesis, ...]


def probabilities(logits_bk: Tensor, temperature: float) -> np.ndarray:
    """Return calibrated probabilities, float64 `[b, k]`."""
    # numpy, because torch takes many times as long for so few numbers.
    scaled_bk = logits_bk.cpu().numpy().astype(np.float64) / temperature
    with np.errstate(invalid='ignore'):  # inf or NaN logits give NaN scores
        weights_bk = np.exp(scaled_bk - scaled_bk.max(axis=-1, keepdims=True))
    scores: np.ndarray = weights_bk / weights_bk.sum(axis=-1, keepdims=True)
    return scores


def jensen_shannon(p_bk: np.ndarray, q_bk: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence of each row to base 2, in [0, 1], `[b]`."""
    m_bk = (p_bk + q_bk) / 2

    def divergence(a_bk: np.ndarray) -> np.ndarray:
        ratio = np.divide(a_bk, m_bk, out=np.ones_like(a_bk), where=a_bk > 0)
        total: np.ndarray = (a_bk * np.log2(ratio)).sum(axis=-1)
        return total

    mean_b: np.ndarray = (divergence(p_bk) + divergence(q_bk)) / 2
    return mean_b.clip(0.0, 1.0)

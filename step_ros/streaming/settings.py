# SPDX-License-Identifier: Apache-2.0
"""Settings of the stream, named like the perception node's parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from step_ros.encoders.base import Encoder
from step_ros.model.bundle import Bundle
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.postprocessing.events import EventSettings
from step_ros.streaming.postprocessing.smoothing import check_time_constant
from step_ros.streaming.recogniser import StreamingRecogniser


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """All settings that affect the hypotheses and events of a stream of frames.

    The node has parameters of the same names. Only `config/perception.yaml` holds the defaults
    (`step_ros.resources.load_defaults`).

    Attributes:
        order_tolerance: How far in seconds a frame may lag behind a newer one and still enter.
        max_gap: Longest time in seconds between two grid frames of one window; 0 for
            `MAX_GAP_PERIODS` frame periods.
        jump_back: If a frame lags this many seconds behind the newest one, time has jumped back.
        order_evidence: Whether to run the heads on the reversed window too.
        memory_budget: MiB that the heads may keep for each camera.
        smoothing: Time constant of the scores in seconds; 0 for none.
        on_threshold: See `EventSettings`.
        off_threshold: See `EventSettings`.
        minimum_duration: See `EventSettings`; in seconds.
        minimum_gap: See `EventSettings`; in seconds.
        minimum_order_evidence: See `EventSettings`.
        ignored_labels: See `EventSettings`.

    Raises:
        ValueError: The settings of events or smoothing are invalid.
    """

    order_tolerance: float
    max_gap: float
    jump_back: float
    order_evidence: bool
    memory_budget: int
    smoothing: float
    on_threshold: float
    off_threshold: float
    minimum_duration: float
    minimum_gap: float
    minimum_order_evidence: float
    ignored_labels: tuple[str, ...]

    def __post_init__(self) -> None:
        check_time_constant(self.smoothing)
        if self.minimum_order_evidence > 0 and not self.order_evidence:
            raise ValueError(
                f'minimum_order_evidence={self.minimum_order_evidence} without order_evidence: no '
                'label with a counterpart could ever start; set order_evidence to true, or '
                'minimum_order_evidence to 0'
            )
        self.events()

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> 'StreamSettings':
        """Return the settings among a node's parameters; ignore the other parameters."""
        chosen = {field.name: values[field.name] for field in fields(cls)}
        return cls(**{**chosen, 'ignored_labels': tuple(chosen['ignored_labels'])})

    def events(self) -> EventSettings:
        """Return the settings of the event detector."""
        return EventSettings(
            on_threshold=self.on_threshold,
            off_threshold=self.off_threshold,
            minimum_duration_ns=round(self.minimum_duration * NANOSECONDS),
            minimum_gap_ns=round(self.minimum_gap * NANOSECONDS),
            minimum_order_evidence=self.minimum_order_evidence,
            # A ROS parameter cannot be an empty list, so an empty name stands for no label.
            ignored_labels=frozenset(self.ignored_labels) - {''},
        )

    def recogniser(self, bundle: Bundle, encoder: Encoder) -> StreamingRecogniser:
        """Return a recogniser with these settings.

        Raises:
            ValueError: A time does not fit the bundle's frame period.
        """
        return StreamingRecogniser(
            bundle,
            encoder,
            order_tolerance=self.order_tolerance,
            max_gap=self.max_gap or None,
            jump_back=self.jump_back,
            order_evidence=self.order_evidence,
            memory_budget=self.memory_budget * 2**20,
        )

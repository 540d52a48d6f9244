"""Settings of the stream by the names that the perception node's parameters have."""

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
    """What decides which hypotheses and events a stream of frames gives.

    The node's parameters mean the same; `config/perception.yaml` is the only home of the defaults
    (`step_ros.resources.load_defaults`).

    Attributes:
        order_tolerance: Seconds that a frame may come behind a newer one and still count.
        max_gap: Longest time in seconds between two grid frames; 0 for two and a half periods.
        jump_back: Seconds behind the newest frame from which time jumped back.
        order_evidence: Whether to run the heads on the reversed window too.
        memory_budget: MiB that the heads may keep of each camera.
        smoothing: Time constant of the scores in seconds; 0 for none.
        on_threshold: As in `EventSettings`, and so are the following.
        off_threshold: Likewise.
        minimum_duration: Likewise, in seconds.
        minimum_gap: Likewise, in seconds.
        minimum_order_evidence: Likewise.
        ignored_labels: Likewise.

    Raises:
        ValueError: Settings of events or smoothing do not fit.
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
                f'minimum_order_evidence={self.minimum_order_evidence} without order_evidence: '
                'no label with a counterpart could ever begin'
            )
        self.events()

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> 'StreamSettings':
        """Choose the settings among a node's parameters; others are passed over."""
        chosen = {field.name: values[field.name] for field in fields(cls)}
        return cls(**{**chosen, 'ignored_labels': tuple(chosen['ignored_labels'])})

    def events(self) -> EventSettings:
        """Return those of the event detector."""
        return EventSettings(
            on_threshold=self.on_threshold,
            off_threshold=self.off_threshold,
            minimum_duration_ns=round(self.minimum_duration * NANOSECONDS),
            minimum_gap_ns=round(self.minimum_gap * NANOSECONDS),
            minimum_order_evidence=self.minimum_order_evidence,
            # A ROS parameter cannot be an empty list; an empty name stands for none.
            ignored_labels=frozenset(self.ignored_labels) - {''},
        )

    def recogniser(self, bundle: Bundle, encoder: Encoder) -> StreamingRecogniser:
        """Make a recogniser with these settings.

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

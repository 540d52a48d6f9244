"""What a soak showed, and whether it is as it must be."""

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from step_ros.ros.frame_counts import FrameCounts
from step_ros.ros.process_usage import Memory
from step_ros.ros.soak_plan import SoakPlan

GROWTH_PERCENT = 1.0
TRANSPORT_LOST_PERCENT = 1.0


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Something that must hold.

    Attributes:
        what: In words.
        found: What was found.
        passed: Whether it holds.
    """

    what: str
    found: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class MemorySample:
    """The node's memory at one time.

    Attributes:
        seconds: Since all cameras publish.
        memory: What the node held.
    """

    seconds: float
    memory: Memory


@dataclass(frozen=True, kw_only=True)
class CameraFrames:
    """What became of all images of one camera.

    Attributes:
        sent: Images published, by all its processes.
        counts: What the node says of them.
    """

    sent: int
    counts: FrameCounts

    @property
    def transport_lost(self) -> int:
        """Images that did not reach the node."""
        return self.sent - self.counts.received


@dataclass(frozen=True, kw_only=True)
class SoakResult:
    """What a run showed.

    Attributes:
        plan: What was done.
        restarts: How often a camera was stopped and started anew.
        hypotheses: How many came, by camera.
        frames: What became of the images, by camera.
        samples: The node's memory over time.
    """

    plan: SoakPlan
    restarts: int
    hypotheses: dict[str, int]
    frames: dict[str, CameraFrames]
    samples: list[MemorySample] = field(repr=False)

    @property
    def growth_percent(self) -> float:
        """How much memory grew from the first span after the warm-up to the last.

        Own memory counts with its medians over these. Shared memory is the publishers': where
        images waited in it, its pages stay with the node until that publisher is restarted. So it
        counts with the least that there was in the first half and in the second.
        """
        span, end = self.plan.span, self.samples[-1].seconds
        middle = (span + end) / 2
        first = self._own(span, 2 * span) + self._least_shared(span, middle)
        last = self._own(end - span, end) + self._least_shared(middle, end)
        return 100 * (last / first - 1)

    @property
    def own_growth_percent(self) -> float:
        """The same without shared memory."""
        span, end = self.plan.span, self.samples[-1].seconds
        return 100 * (self._own(end - span, end) / self._own(span, 2 * span) - 1)

    def _own(self, begin: float, end: float) -> float:
        return statistics.median(
            memory.resident - memory.shared for memory in self._between(begin, end)
        )

    def _least_shared(self, begin: float, end: float) -> int:
        return min(memory.shared for memory in self._between(begin, end))

    def _between(self, begin: float, end: float) -> list[Memory]:
        """Return what was held in a time; the nearest sample if there is none."""
        inside = [each for each in self.samples if begin <= each.seconds <= end]
        nearest = min(self.samples, key=lambda each: abs(each.seconds - (begin + end) / 2))
        return [each.memory for each in inside or [nearest]]

    def conditions(self) -> list[Condition]:
        """Judge the run."""
        frames = self.frames.values()
        sent = sum(each.sent for each in frames)
        transport_lost = [each.transport_lost for each in frames]
        unaccounted = [each.counts.unaccounted for each in frames]
        lost_percent = 100 * sum(transport_lost) / sent if sent else 100.0
        span = self.plan.span
        return [
            Condition(
                what=f'memory grows by at most {GROWTH_PERCENT:g} % (medians of the resident set '
                f'over {span:.0f} s: the first after a warm-up of {span:.0f} s, and the last; of '
                'shared memory the least in either half)',
                found=f'{self.growth_percent:+.2f} % '
                f'({self.own_growth_percent:+.2f} % without shared memory)',
                passed=self.growth_percent <= GROWTH_PERCENT,
            ),
            Condition(
                what='received = used + off the grid + dropped by cause, for each camera',
                found=f'unaccounted: {unaccounted}',
                passed=not any(unaccounted),
            ),
            Condition(
                what='sent = received + lost in transport, of which at most '
                f'{TRANSPORT_LOST_PERCENT:g} %',
                found=f'{sent} sent, {transport_lost} lost',
                passed=min(transport_lost) >= 0 and lost_percent <= TRANSPORT_LOST_PERCENT,
            ),
            Condition(
                what='every camera gave hypotheses after restarts, gaps and jumps',
                found=f'{list(self.hypotheses.values())} hypotheses, {self.restarts} restarts',
                passed=all(self.hypotheses.values()),
            ),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            **asdict(self),
            'growth_percent': self.growth_percent,
            'own_growth_percent': self.own_growth_percent,
            'conditions': [asdict(condition) for condition in self.conditions()],
        }

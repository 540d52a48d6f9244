"""What a soak does to the node."""

from dataclasses import dataclass, replace

from step_ros.ros.benchmark_publisher import PublisherSettings
from step_ros.ros.qos import DEPTH

# Memory is compared over the first minute after the warm-up, itself a minute, and the last; in a
# run of less than five minutes over fifths.
_MINUTE = 60.0
_PARTS = 5
# The longest that the node is held up at once.
_HOLD_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class SoakPlan:
    """What is done to the node.

    Attributes:
        seconds: How long.
        cameras: Number of cameras.
        rate: Images of each in a second.
        size: Width and height of an image in pixels.
    """

    seconds: float
    cameras: int
    rate: float
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.cameras < 1:
            raise ValueError(
                f'{self.cameras} cameras for {self.seconds:g} s: expected at least one camera, '
                'and more than no time'
            )

    @property
    def span(self) -> float:
        """Seconds of the warm-up, and of each time over which memory is compared."""
        return min(_MINUTE, self.seconds / _PARTS)

    @property
    def restart_every(self) -> float:
        """Seconds from one restart of a camera to the next; each has several."""
        return max(3.0, self.seconds / (6 * self.cameras))

    @property
    def hold_seconds(self) -> float:
        """Seconds for which the node is held up: twice as many images come as may wait."""
        return min(_HOLD_SECONDS, 2 * DEPTH / self.rate)

    def steady_publisher(self, topic: str) -> PublisherSettings:
        """Return what a camera publishes before the run."""
        width, height = self.size
        return PublisherSettings(topics=[topic], rate=self.rate, width=width, height=height)

    def publisher(self, topic: str) -> PublisherSettings:
        """Return what a camera publishes: every few seconds a gap, now and then a jump."""
        return replace(
            self.steady_publisher(topic),
            gap_every=max(4.0, self.seconds / 50),
            gap=1.5,
            jump_every=max(2.5, self.seconds / 80),
            jump=30.0,
        )

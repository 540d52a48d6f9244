"""When a benchmark's cameras show which image, and by how much its stamp is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True, kw_only=True)
class DueImage:
    """An image that is to be published.

    Attributes:
        camera: Index of its camera.
        due: When, in seconds from the beginning.
        skew: What its stamp is ahead of the clock, in seconds.
    """

    camera: int
    due: float
    skew: float


@dataclass(frozen=True, kw_only=True)
class PublishingSchedule:
    """Cameras at the same rate, evenly apart in time, with gaps and with jumps of their clock.

    Attributes:
        cameras: How many.
        rate: Images of each in a second.
        gap_every: Seconds after which a gap ends; 0 for none.
        gap: Its length in seconds.
        jump_every: Seconds after which the stamps jump, forward and back in turns; 0 for never.
        jump: How far, in seconds.

    Raises:
        ValueError: There is no camera or no rate, or the gaps leave no time between them.
    """

    cameras: int
    rate: float
    gap_every: float = 0.0
    gap: float = 0.0
    jump_every: float = 0.0
    jump: float = 0.0

    def __post_init__(self) -> None:
        if self.cameras < 1 or self.rate <= 0:
            raise ValueError(
                f'{self.cameras} cameras at {self.rate:g} Hz: expected at least one camera, and a '
                'rate above 0'
            )
        if self.gap_every and not 0 <= self.gap < self.gap_every:
            raise ValueError(
                f'a gap of {self.gap:g} s every {self.gap_every:g} s: expected a shorter one'
            )

    @property
    def period(self) -> float:
        """Seconds between two images of a camera."""
        return 1 / self.rate

    def images(self) -> Iterator[DueImage]:
        """Go through all images, in the order of their times, without end."""
        for index in count():
            due = index * self.period / self.cameras
            if self.gap_every and due % self.gap_every >= self.gap_every - self.gap:
                continue
            skewed = self.jump_every and int(due / self.jump_every) % 2
            yield DueImage(camera=index % self.cameras, due=due, skew=self.jump if skewed else 0.0)

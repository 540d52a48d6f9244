"""The highest rate of grid frames that the node keeps up with."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from step_ros.model.bundle import SPEC_FILE
from step_ros.ros.benchmark_publisher import PublisherSettings
from step_ros.ros.benchmark_session import BenchmarkSession
from step_ros.ros.node_bars import Bar
from step_ros.ros.node_times import NodeTimes, measure_node
from step_ros.stream.own_rate import OwnRate

# Grid frames that may be lost.
LOST_PERCENT = 5.0
KEPT_SHARE = 0.9
# Where the search starts, in shares of the recogniser's own rate.
START_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A rate that was tried.

    Attributes:
        rate: Grid frames of all cameras in a second.
        kept: Whether few enough were lost or left behind.
        times: What was measured.
    """

    rate: float
    kept: bool
    times: NodeTimes


@dataclass(frozen=True, kw_only=True)
class RateSearch:
    """What a search found.

    Attributes:
        highest: The highest rate tried at which few enough grid frames were lost; 0 for none.
        own: What the recogniser does by itself, on this machine in this run.
        probes: All rates tried, in order.
    """

    highest: float
    own: OwnRate
    probes: list[Probe]

    @property
    def bar(self) -> Bar:
        """Hold it against the recogniser."""
        share = self.highest / self.own.frames_per_s
        return Bar(
            what=f'highest rate with at most {LOST_PERCENT:g} % of grid frames lost, '
            "share of the recogniser's own",
            measured=share,
            bar=f'at least {KEPT_SHARE:g}',
            passed=share >= KEPT_SHARE,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return asdict(self)


def highest_kept(start: float, *, steps: int, kept: Callable[[float], bool]) -> float:
    """Search for the highest rate that is kept: by doubling, then by halving.

    Args:
        start: A rate to start with.
        steps: How often to halve between a rate that is kept and one that is not.
        kept: Tries a rate.

    Returns:
        The highest rate that was kept; 0 for none.
    """
    low, high = 0.0, start
    while kept(high):
        low, high = high, 2 * high
    for _ in range(steps):
        middle = (low + high) / 2
        if kept(middle):
            low = middle
        else:
            high = middle
    return low


def search_rate(
    bundle: Path,
    *,
    cameras: int,
    size: tuple[int, int],
    own: Callable[[], OwnRate],
    seconds: float,
    folder: Path,
    parameters: dict[str, Any],
    steps: int,
) -> RateSearch:
    """Search for the highest rate of grid frames that a node keeps up with.

    Every image is a grid frame: the bundle's frame period is made as short as that of the cameras.

    Args:
        bundle: Folder of the bundle.
        cameras: Number of cameras.
        size: Width and height of their images.
        own: Measures what the recogniser does by itself; asked before each rate is tried, and at
            the end, to answer for all this time.
        seconds: How long each rate is measured.
        folder: For logs.
        parameters: Further parameters of the node.
        steps: As for `highest_kept`.

    Raises:
        NodeError: The node or the publisher does not keep going.
    """
    probes: list[Probe] = []

    def kept(rate: float) -> bool:
        if probes:
            own()
        with (
            faster_bundle(bundle, frame_period=cameras / rate) as faster,
            BenchmarkSession(
                faster, cameras=cameras, folder=folder, parameters=parameters
            ) as session,
        ):
            settings = PublisherSettings(
                topics=session.topics,
                rate=rate / cameras,
                width=size[0],
                height=size[1],
                exact_stamps=True,
            )
            times = measure_node(session, settings, seconds=seconds, own_ms=0.0)
        # A queue hides for a while that the node falls behind.
        missing = max(times.lost_percent, times.behind_percent)
        probes.append(Probe(rate=rate, kept=missing <= LOST_PERCENT, times=times))
        return probes[-1].kept

    highest = highest_kept(START_SHARE * own().frames_per_s, steps=steps, kept=kept)
    return RateSearch(highest=highest, own=own(), probes=probes)


@contextmanager
def faster_bundle(bundle: Path, *, frame_period: float) -> Iterator[Path]:
    """Give a copy of a bundle with another frame period, while it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / bundle.name
        shutil.copytree(bundle, copy)
        path = copy / SPEC_FILE
        spec = yaml.safe_load(path.read_text(encoding='utf-8'))
        spec['frame_period'] = frame_period
        path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding='utf-8')
        yield copy

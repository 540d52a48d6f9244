"""The highest rate of grid frames that the node keeps up with."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from step_ros.benchmarks.recogniser_rate import OwnRate
from step_ros.model.bundle import SPEC_FILE
from step_ros.ros.benchmarks.node_run import NodeTimes, Requirement, measure_node
from step_ros.ros.benchmarks.publisher import PublisherSettings
from step_ros.ros.benchmarks.session import BenchmarkSession

# Grid frames that may be lost.
LOST_PERCENT = 5.0
KEPT_SHARE = 0.9
# Where the search starts, in shares of the recogniser's own rate.
START_SHARE = 0.5
# By how much the recogniser's own rate may change while a rate is tried, for the try to count.
STEADY_SHARE = 0.1
# Tries that count and say the same decide.
AGREEING = 2


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A rate that was tried once.

    Attributes:
        share: The rate, as a share of the recogniser's own.
        own: What the recogniser did by itself, a moment before.
        own_after: And a moment after.
        times: What was measured.
    """

    share: float
    own: OwnRate
    own_after: OwnRate
    times: NodeTimes

    @property
    def kept(self) -> bool:
        """Whether few enough grid frames were lost or left behind."""
        # A queue hides for a while that the node falls behind.
        return max(self.times.lost_percent, self.times.behind_percent) <= LOST_PERCENT

    @property
    def steady(self) -> bool:
        """Whether the machine was as fast afterwards; else this says nothing about the node."""
        change = self.own_after.frames_per_s / self.own.frames_per_s - 1
        return abs(change) <= STEADY_SHARE

    @property
    def rate(self) -> float:
        """Grid frames of all cameras in a second."""
        return self.share * self.own.frames_per_s


@dataclass(frozen=True, kw_only=True)
class RateSearch:
    """What a search found.

    Attributes:
        share: The highest share of the recogniser's own rate that was kept; 0 for none.
        probes: All rates tried, in order.
    """

    share: float
    probes: list[Probe]

    @property
    def bar(self) -> Requirement:
        """Hold it against the recogniser."""
        return Requirement(
            what=f'highest rate with at most {LOST_PERCENT:g} % of grid frames lost, '
            "share of the recogniser's own",
            measured=self.share,
            bar=f'at least {KEPT_SHARE:g}',
            passed=self.share >= KEPT_SHARE,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        judged = [
            {'rate': each.rate, 'kept': each.kept, 'steady': each.steady, **asdict(each)}
            for each in self.probes
        ]
        return {'share': self.share, 'probes': judged}


def predict(tries: Sequence[Probe], *, most: int) -> bool | None:
    """Say whether a rate is kept, by the tries of it; None where another one is wanted.

    Those on a steady machine count, or all where there are none.

    Args:
        tries: All so far; at least one.
        most: After so many, most of those that count decide; as many against it refuse it.
    """
    counted = [probe.kept for probe in tries if probe.steady]
    for verdict in (True, False):
        if counted.count(verdict) >= AGREEING:
            return verdict
    if len(tries) < most:
        return None
    counted = counted or [probe.kept for probe in tries]
    return counted.count(True) > counted.count(False)


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


def search_share(
    *,
    own: Callable[[], OwnRate],
    node_at: Callable[[float], NodeTimes],
    steps: int,
    tries: int,
) -> RateSearch:
    """Search for the highest share of the recogniser's own rate that a node keeps.

    A machine's speed drifts: the recogniser is measured before and after each try.

    Args:
        own: Measures what the recogniser does by itself.
        node_at: Measures the node at a rate: grid frames of all cameras in a second.
        steps: As for `highest_kept`.
        tries: How often a share is tried at most, until `AGREEING` steady tries agree.
    """
    probes: list[Probe] = []
    alone = own()

    def attempt(share: float) -> Probe:
        nonlocal alone
        before = alone
        times = node_at(share * before.frames_per_s)
        alone = own()
        probes.append(Probe(share=share, own=before, own_after=alone, times=times))
        return probes[-1]

    def kept(share: float) -> bool:
        tried = [attempt(share)]
        while (verdict := predict(tried, most=tries)) is None:
            tried.append(attempt(share))
        return verdict

    return RateSearch(share=highest_kept(START_SHARE, steps=steps, kept=kept), probes=probes)


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
    tries: int,
) -> RateSearch:
    """Search for the highest rate of grid frames that a node keeps up with; see `search_share`.

    Every image is a grid frame: the bundle's frame period is made as short as that of the cameras.

    Args:
        bundle: Folder of the bundle.
        cameras: Number of cameras.
        size: Width and height of their images.
        own: Measures what the recogniser does by itself.
        seconds: How long each try takes.
        folder: For logs.
        parameters: Further parameters of the node.
        steps: As for `search_share`.
        tries: As for `search_share`.

    Raises:
        NodeError: The node or the publisher does not keep going.
    """

    def node_at(rate: float) -> NodeTimes:
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
            return measure_node(session, settings, seconds=seconds, own_ms=0.0)

    return search_share(own=own, node_at=node_at, steps=steps, tries=tries)


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

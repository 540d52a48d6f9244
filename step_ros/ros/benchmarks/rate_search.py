# SPDX-License-Identifier: Apache-2.0
"""Searches for the highest rate of grid frames that the perception node keeps up with.

The rate is a share of the recogniser's own rate: the frames per second that the recogniser does in
this process, from frames in memory, without ROS. A share of 1 means that the node adds no cost.

First the share doubles until the node fails, then the range between kept and failed is halved:

    share     0.5 ---------> 1.0         the node keeps 0.5 and fails at 1.0
    step 1          0.75                 kept: search above
    step 2                 0.875         kept: search above
    step 3                    0.9375     failed: search below; the result is 0.875

One share takes several tries, because the speed of a machine drifts. The recogniser is measured
before and after each try, and a try counts only if both measurements agree (it is steady):

    recogniser   try   recogniser   try   recogniser   try   recogniser
       380        |       388        |       269        |       377        frames per second
               steady             unsteady           unsteady
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from step_ros.benchmarks.recogniser_rate import RecogniserRate
from step_ros.model.bundle import SPEC_FILE
from step_ros.ros.benchmarks.node_run import NodeTimes, Requirement, measure_node
from step_ros.ros.benchmarks.publisher import PublisherSettings
from step_ros.ros.benchmarks.session import BenchmarkSession

# Percent of the grid frames that the node may lose at a rate that it keeps.
LOST_PERCENT = 5.0
# Requirement: the node keeps this share of the recogniser's own rate.
KEPT_SHARE = 0.9
# The first share of the search.
START_SHARE = 0.5
# A try is steady if the recogniser's own rate changed by at most this share meanwhile.
STEADY_SHARE = 0.1
# So many steady tries with the same outcome settle a rate.
AGREEING = 2


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One try of a rate.

    Attributes:
        share: The rate, as a share of the recogniser's own rate before the try.
        own: The recogniser by itself, just before the try.
        own_after: The recogniser by itself, just after the try.
        times: The run of the node.
    """

    share: float
    own: RecogniserRate
    own_after: RecogniserRate
    times: NodeTimes

    @property
    def kept(self) -> bool:
        """Whether the node lost few enough grid frames, and did not fall behind."""
        # While a queue fills, no frame is lost yet: hypotheses only come ever later. So count
        # those that came in time, too.
        return max(self.times.lost_percent, self.times.behind_percent) <= LOST_PERCENT

    @property
    def steady(self) -> bool:
        """Whether the machine was as fast after the try; if not, the try says nothing."""
        change = self.own_after.frames_per_s / self.own.frames_per_s - 1
        return abs(change) <= STEADY_SHARE

    @property
    def rate(self) -> float:
        """Grid frames of all cameras in a second."""
        return self.share * self.own.frames_per_s


@dataclass(frozen=True, kw_only=True)
class RateSearch:
    """Result of a search.

    Attributes:
        share: The highest share of the recogniser's own rate that the node kept; 0 for none.
        probes: All tries, in order.
    """

    share: float
    probes: list[Probe]

    @property
    def requirement(self) -> Requirement:
        """The requirement on the share, and whether it is met."""
        return Requirement(
            what=f'highest rate with at most {LOST_PERCENT:g} % of grid frames lost, '
            "share of the recogniser's own",
            measured=self.share,
            required=f'at least {KEPT_SHARE:g}',
            passed=self.share >= KEPT_SHARE,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the share and all tries, for JSON."""
        probes = [
            {'rate': each.rate, 'kept': each.kept, 'steady': each.steady, **asdict(each)}
            for each in self.probes
        ]
        return {'share': self.share, 'probes': probes}


def search_rate(
    bundle: Path,
    *,
    cameras: int,
    size: tuple[int, int],
    own: Callable[[], RecogniserRate],
    seconds: float,
    folder: Path,
    parameters: dict[str, Any],
    steps: int,
    tries: int,
) -> RateSearch:
    """Search for the highest rate of grid frames that a node keeps up with.

    Args:
        bundle: Folder of the bundle.
        cameras: Number of cameras.
        size: Width and height of their images in pixels.
        own: Measures the recogniser by itself.
        seconds: Measured time of each try.
        folder: For logs.
        parameters: Further parameters of the node.
        steps: How often to halve the range; see `highest_kept`.
        tries: How often to try one rate at most; see `verdict`.

    Raises:
        NodeError: The node or the publisher ended early.
    """

    def node_at(rate: float) -> NodeTimes:
        # Each camera has its share of the rate. Its frame period is the bundle's, too, so that
        # every image is a grid frame: the load is all encoding, not frames off the grid.
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
                # With stamps of publishing, jitter would put two images into one slot.
                exact_stamps=True,
            )
            return measure_node(session, settings, seconds=seconds, own_ms=0.0)

    return search_share(own=own, node_at=node_at, steps=steps, tries=tries)


def search_share(
    *,
    own: Callable[[], RecogniserRate],
    node_at: Callable[[float], NodeTimes],
    steps: int,
    tries: int,
) -> RateSearch:
    """Search for the highest share of the recogniser's own rate that a node keeps.

    Args:
        own: Measures the recogniser by itself.
        node_at: Runs the node at a rate: grid frames of all cameras per second.
        steps: As for `highest_kept`.
        tries: How often to try a share at most; see `verdict`.
    """
    probes: list[Probe] = []
    alone = own()

    def attempt(share: float) -> Probe:
        nonlocal alone
        # The measurement after one try is also the measurement before the next.
        before = alone
        times = node_at(share * before.frames_per_s)
        alone = own()
        probes.append(Probe(share=share, own=before, own_after=alone, times=times))
        return probes[-1]

    def kept(share: float) -> bool:
        tried = [attempt(share)]
        while (outcome := verdict(tried, most=tries)) is None:
            tried.append(attempt(share))
        return outcome

    return RateSearch(share=highest_kept(START_SHARE, steps=steps, kept=kept), probes=probes)


def highest_kept(start: float, *, steps: int, kept: Callable[[float], bool]) -> float:
    """Return the highest rate that is kept, found by doubling, then by halving.

    Args:
        start: The first rate.
        steps: How often to halve the range between a kept rate and a failed one.
        kept: Tries a rate; returns whether it is kept.

    Returns:
        The highest rate that was tried and kept; 0 for none.
    """
    low, high = 0.0, start
    while kept(high):
        low, high = high, 2 * high
    # Throughout: `low` was kept, or is 0, and `high` failed.
    for _ in range(steps):
        middle = (low + high) / 2
        if kept(middle):
            low = middle
        else:
            high = middle
    return low


def verdict(tries: Sequence[Probe], *, most: int) -> bool | None:
    """Return whether the tries show that a rate is kept; None if one more try is needed.

    Only steady tries count. After the last allowed try without a steady one, all count.

    Args:
        tries: The tries of this rate so far; at least one.
        most: How many tries are allowed.
    """
    counted = [probe.kept for probe in tries if probe.steady]
    for outcome in (True, False):
        if counted.count(outcome) >= AGREEING:
            return outcome
    if len(tries) < most:
        return None
    # No more tries: the majority wins. A tie is a failure, so that chance makes no rate "kept".
    counted = counted or [probe.kept for probe in tries]
    return counted.count(True) > counted.count(False)


@contextmanager
def faster_bundle(bundle: Path, *, frame_period: float) -> Iterator[Path]:
    """Yield a copy of a bundle with another frame period; remove it afterwards.

    Args:
        bundle: Folder of the bundle.
        frame_period: Seconds between two grid frames.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / bundle.name
        shutil.copytree(bundle, copy)
        path = copy / SPEC_FILE
        spec = yaml.safe_load(path.read_text(encoding='utf-8'))
        spec['frame_period'] = frame_period
        path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding='utf-8')
        yield copy

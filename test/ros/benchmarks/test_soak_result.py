# SPDX-License-Identifier: Apache-2.0
"""The conditions of a soak are judged on its counts and memory samples."""

from dataclasses import replace

import pytest

from step_ros.ros.benchmarks.process_usage import Memory
from step_ros.ros.benchmarks.soak import (
    CameraFrames,
    MemorySample,
    SoakPlan,
    SoakResult,
    conditions_table,
    frames_table,
)
from step_ros.ros.clients.frame_counts import FrameCounts

SOUND = FrameCounts(received=100, used=20, off_grid=78, dropped={'late': 2})


def result(*, sent=100, counts=SOUND, resident=lambda seconds: 900e6, hypotheses=12):
    plan = SoakPlan(seconds=600.0, cameras=1, rate=30.0, size=(64, 48))
    samples = [
        MemorySample(
            seconds=float(second),
            memory=Memory(resident=int(resident(second)), anonymous=0, shared=0),
        )
        for second in range(1, 601)
    ]
    return SoakResult(
        plan=plan,
        restarts=3,
        hypotheses={'camera0': hypotheses},
        frames={'camera0': CameraFrames(sent=sent, counts=counts)},
        samples=samples,
    )


def failed(run):
    return [condition.what.split()[0] for condition in run.conditions() if not condition.passed]


def test_a_sound_run_passes():
    assert failed(result()) == []
    assert 'NO' not in conditions_table(result())
    assert '| camera0 | 100 | 0 | 100 | 20 | 78 | 2 | 0 | 12 |' in frames_table(result())


@pytest.mark.parametrize(
    ('wrong', 'what'),
    [
        ({'resident': lambda seconds: 900e6 + 1e5 * seconds}, 'memory'),
        ({'counts': FrameCounts(received=100, used=20, off_grid=79)}, 'received'),
        ({'sent': 99}, 'sent'),
        ({'sent': 102}, 'sent'),
        ({'hypotheses': 0}, 'every'),
    ],
)
def test_each_condition_can_fail(wrong, what):
    assert failed(result(**wrong)) == [what]


def test_memory_is_compared_after_the_warm_up():
    grown = result(resident=lambda seconds: 500e6 if seconds < 60 else 900e6)
    assert grown.growth_percent == 0
    # Half a percent more in the last minute, and a peak that is no longer there.
    peak = result(
        resident=lambda seconds: 904.5e6 if seconds >= 540 else 2e9 if seconds == 300 else 900e6
    )
    assert peak.growth_percent == pytest.approx(0.5)


def with_shared(run, shared):
    """Add shared memory to each sample: `shared` gives its bytes at a second."""
    samples = [
        replace(
            sample,
            memory=replace(
                sample.memory,
                resident=sample.memory.resident + int(shared(sample.seconds)),
                shared=int(shared(sample.seconds)),
            ),
        )
        for sample in run.samples
    ]
    return replace(run, samples=samples)


def test_shared_memory_freed_at_a_restart_is_no_growth():
    run = with_shared(result(), lambda seconds: 30e6 if seconds % 100 > 20 else 6e6)
    assert run.growth_percent == 0
    assert failed(run) == []


def test_shared_memory_that_is_never_freed_is_growth():
    run = with_shared(result(), lambda seconds: 6e6 + 5e6 * (seconds // 25))
    # The minimum of each half: from 60 s on, and from 330 s on.
    assert run.growth_percent == pytest.approx(100 * (5e6 * (13 - 2)) / (906e6 + 10e6))
    assert run.own_growth_percent == 0
    assert failed(run) == ['memory']


def test_own_memory_in_place_of_shared_memory_is_growth():
    own = result(resident=lambda seconds: 810e6 if seconds < 300 else 900e6)
    run = with_shared(own, lambda seconds: 90e6 if seconds < 300 else 0)
    assert run.growth_percent == run.own_growth_percent == pytest.approx(100 * 90 / 810)
    assert failed(run) == ['memory']

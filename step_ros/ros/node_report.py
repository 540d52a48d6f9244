"""The node's figures as Markdown tables."""

from collections.abc import Sequence

import numpy as np

from step_ros.ros.node_bars import Bar
from step_ros.ros.node_times import NodeTimes
from step_ros.ros.process_usage import STAGES
from step_ros.ros.rate_search import RateSearch
from step_ros.stream.benchmark_report import table

_CPU = (*STAGES, 'publisher', 'listener', 'others')
NODE_COLUMNS = (
    *('cameras', 'rate_hz', 'hypotheses_per_s', 'p50_ms', 'p95_ms', 'p99_ms', 'max_ms'),
    *('added_p99_ms', 'lost_%', 'dropped_%', *(f'{stage}_%' for stage in _CPU), 'resident_mb'),
)
SEARCH_COLUMNS = (
    *('share', 'grid_frames_per_s', 'own_before', 'own_after', 'kept', 'lost_%', 'behind_%'),
    *('p50_ms', 'p99_ms'),
    *(f'{stage}_%' for stage in _CPU),
)
BAR_COLUMNS = ('bar', 'measured', 'asked', 'passed')


def node_table(rows: Sequence[NodeTimes]) -> str:
    """Write the runs; processor time is in percent of one core."""
    return table(NODE_COLUMNS, [_node_cells(row) for row in rows])


def search_table(search: RateSearch) -> str:
    """Write the rates that were tried, lowest share of the recogniser's own rate first."""
    rows = [
        [
            f'{probe.share:.3f}',
            f'{probe.rate:.0f}',
            f'{probe.own.frames_per_s:.0f}',
            f'{probe.own_after.frames_per_s:.0f}',
            _yes(probe.kept) if probe.steady else 'unsteady',
            f'{probe.times.lost_percent:.1f}',
            f'{probe.times.behind_percent:.1f}',
            f'{probe.times.latency_ms["p50"]:.1f}',
            f'{probe.times.latency_ms["p99"]:.1f}',
            *_cpu_cells(probe.times),
        ]
        for probe in sorted(search.probes, key=lambda probe: probe.share)
    ]
    frames_per_s = np.median([probe.own.frames_per_s for probe in search.probes])
    frame_ms = np.median([probe.own.frame_ms for probe in search.probes])
    return (
        table(SEARCH_COLUMNS, rows)
        + f'\n\nhighest share kept: {search.share:.2f}, about {search.share * frames_per_s:.0f} '
        f'grid frames in a second; the recogniser by itself (medians): {frames_per_s:.0f}, a '
        f'frame of each camera at once, {1e3 / frame_ms:.0f}, one by one'
    )


def bars_table(bars: Sequence[Bar]) -> str:
    """Write what was asked and whether it was reached."""
    return table(
        BAR_COLUMNS,
        [[bar.what, f'{bar.measured:.2f}', bar.bar, _yes(bar.passed)] for bar in bars],
    )


def _node_cells(row: NodeTimes) -> list[str]:
    return [
        str(row.cameras),
        f'{row.rate:g}',
        f'{row.hypotheses_per_s:.1f}',
        *(f'{row.latency_ms[key]:.1f}' for key in ('p50', 'p95', 'p99', 'max')),
        f'{row.added_ms["p99"]:.1f}',
        f'{row.lost_percent:.1f}',
        f'{row.dropped_percent:.1f}',
        *_cpu_cells(row),
        f'{row.resident_mb:.0f}',
    ]


def _cpu_cells(row: NodeTimes) -> list[str]:
    return [f'{row.cpu_percent[stage]:.0f}' for stage in _CPU]


def _yes(passed: bool) -> str:
    return 'yes' if passed else 'NO'

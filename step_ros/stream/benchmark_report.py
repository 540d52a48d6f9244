"""What a benchmark says beside its numbers: the machine, and the table."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from step_ros.stream.benchmark import StreamTimes

COLUMNS = (
    *('backbone', 'tasks', 'naive_ms', 'stream_ms', 'ratio', 'backbone_ms'),
    *('plain_heads_ms', 'stream_heads_ms', 'max_abs_diff'),
)


def machine() -> dict[str, Any]:
    """Describe the machine and what computes on it."""
    return {
        'processor': _processor(),
        'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 0,
        'threads': torch.get_num_threads(),
        'load': list(os.getloadavg()),
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        'system': platform.system(),
        'python': platform.python_version(),
        'torch': torch.__version__,
    }


def markdown_table(rows: Sequence[StreamTimes]) -> str:
    """Write the rows as a Markdown table."""
    lines = [
        '| ' + ' | '.join(COLUMNS) + ' |',
        '|---|' + '---:|' * (len(COLUMNS) - 1),
    ]
    for row in rows:
        cells = [
            row.backbone,
            str(row.tasks),
            *(f'{value:.1f}' for value in (row.naive_ms, row.stream_ms)),
            f'{row.ratio:.1f}',
            *(f'{v:.1f}' for v in (row.backbone_ms, row.plain_heads_ms, row.stream_heads_ms)),
            f'{row.max_abs_diff:.0e}',
        ]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _processor() -> str:
    information = Path('/proc/cpuinfo')
    if information.is_file():
        for line in information.read_text(encoding='utf-8', errors='replace').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()

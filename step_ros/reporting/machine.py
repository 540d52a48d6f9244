# SPDX-License-Identifier: Apache-2.0
"""Describe the machine of a benchmark, and write its results as JSON."""

import json
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """Return the facts about the machine that a benchmark reports beside its numbers."""
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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write results as JSON and create the folder; NaN becomes null, since JSON has no NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_without_nan(content), indent=2, allow_nan=False)
    path.write_text(text + '\n', encoding='utf-8')


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _processor() -> str:
    information = Path('/proc/cpuinfo')
    if information.is_file():
        for line in information.read_text(encoding='utf-8', errors='replace').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()

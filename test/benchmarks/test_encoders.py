# SPDX-License-Identifier: Apache-2.0
"""Every runtime is measured, and a runtime that does not run has a reason."""

import sys

import pytest

from step_ros.benchmarks.encoders import EAGER, markdown_rows, measure_runtimes
from step_ros.encoders.factory import TOLERANCES
from step_ros.reporting.installation import how_to_install

pytestmark = pytest.mark.slow


def test_each_runtime_has_times_or_a_reason(tiny_model, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    rows = list(measure_runtimes(tiny_model().backbone))
    found = {(row.runtime, row.device, row.precision): row for row in rows}
    eager = found[EAGER, 'cpu', 'float32']
    assert eager.ratio == 1
    assert eager.max_abs_diff == 0
    torch = found['torch', 'cpu', 'float32']
    assert torch.ms > 0
    assert torch.ms_of_four > 0
    assert torch.ratio == pytest.approx(eager.ms / torch.ms)
    assert torch.max_abs_diff <= 10 * TOLERANCES['float32']
    onnx = found['onnx', 'cpu', 'float32']
    assert onnx.ms is onnx.ms_of_four is None
    assert how_to_install('onnx') in onnx.note
    table = markdown_rows(rows).splitlines()
    assert len(table) == 2 + len(rows)
    assert {line.count('|') for line in table} == {10}

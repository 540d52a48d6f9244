# SPDX-License-Identifier: Apache-2.0
"""The benchmark of several tasks makes the passes that it times."""

import cv2
import pytest
import torch

from step_ros.benchmarks.tasks import COLUMNS, WARM_UP, TasksBenchmark, plot_tasks, tasks_table

pytestmark = pytest.mark.slow

TURNS = 2


@pytest.fixture
def benchmark():
    return TasksBenchmark(
        'vit_tiny_patch16_224', frames=2, image_size=(32, 32), device=torch.device('cpu')
    )


def test_adapters_take_a_pass_for_each_task(benchmark):
    shapes = []
    benchmark.adapted.backbone.register_forward_hook(
        lambda module, inputs, output: shapes.append(tuple(inputs[0].shape))
    )
    one, three = benchmark.run([1, 3], TURNS)
    assert shapes == [(2, 3, 32, 32)] * (1 + 3) * (WARM_UP + TURNS)
    assert (one.tasks, three.tasks) == (1, 3)
    for times in (one, three):
        assert min(times.st_adapter_ms, times.step_ms, times.stream_ms) > 0
        assert times.ratio == pytest.approx(times.st_adapter_ms / times.step_ms)
        assert {len(turns) for turns in times.details['turns_ms'].values()} == {TURNS}
    assert three.details['bytes_per_camera'] == 3 * one.details['bytes_per_camera']


def test_the_adapted_backbone_mixes_frames(benchmark):
    names = [name for name, _ in benchmark.adapted.named_parameters() if 'convolution' in name]
    assert names


def test_table_and_plot_show_the_rows(benchmark, tmp_path):
    rows = list(benchmark.run([1, 2], 1))
    header, _, *lines = tasks_table(rows).splitlines()
    assert [cell.strip() for cell in header.strip('|').split('|')] == list(COLUMNS)
    assert len(lines) == 2
    plot_tasks(tmp_path / 'new' / 'tasks.png', rows, title='tiny')
    assert cv2.imread(str(tmp_path / 'new' / 'tasks.png')).shape[1] > 500


def test_no_turns_and_no_tasks_are_refused(benchmark):
    with pytest.raises(ValueError, match='turns=0'):
        list(benchmark.run([1], 0))
    with pytest.raises(ValueError, match='tasks=0'):
        list(benchmark.run([0], 1))

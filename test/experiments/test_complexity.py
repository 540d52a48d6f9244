# SPDX-License-Identifier: Apache-2.0
"""The complexity table: counts on the real modules against the papers' figures."""

import json
from itertools import pairwise

import cv2
import pytest
from typer.testing import CliRunner

from step_ros.cli import app
from step_ros.experiments.complexity import (
    BACKBONES,
    CLIP,
    DINOV2,
    METHODS,
    complexity_rows,
    count_method,
    grid_rows,
    plot_scaling,
    scaling,
)
from step_ros.model.heads.registry import HEADS
from step_ros.model.peft.registry import PEFT_METHODS

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def rows():
    return {(row.method, row.backbone, row.tasks): row for row in complexity_rows()}


# Tables I and V of the human-robot interaction paper.
PAPER = [
    ('linear', CLIP, 1, 269.6),
    ('linear', DINOV2, 1, 351.5),
    ('attentive', CLIP, 1, 273.6),
    ('attentive', DINOV2, 1, 356.3),
    ('self-attention', CLIP, 1, 308.1),
    ('self-attention', DINOV2, 1, 413.5),
    ('step', CLIP, 1, 307.8),
    ('step', DINOV2, 1, 413.1),
    ('step', DINOV2, 3, 536.5),
    ('vpt-deep + linear', DINOV2, 1, 362.4),
    ('vpt-deep + linear', DINOV2, 3, 1087.0),
]


@pytest.mark.parametrize(('method', 'backbone', 'tasks', 'paper'), PAPER)
def test_gflops_agree_with_the_papers_within_1_percent(rows, method, backbone, tasks, paper):
    row = rows[method, backbone, tasks]
    assert row.paper_gflops == paper
    assert row.gflops == pytest.approx(paper, rel=0.01)


def test_full_count_exceeds_the_papers_convention(rows):
    assert rows['linear', DINOV2, 1].gflops_full == pytest.approx(370.6, abs=0.05)
    assert rows['linear', DINOV2, 1].gflops == pytest.approx(351.1, abs=0.05)


def test_three_views_explain_st_adapter_on_clip(rows):
    row = rows['st-adapter', CLIP, 1]
    assert 3 * row.gflops_full == pytest.approx(911, rel=0.01)
    assert 3 * rows['st-adapter', DINOV2, 1].gflops_full > 1.05 * 1099


def test_three_tasks_cost_adapters_2_to_3_times_step(rows):
    for backbone in BACKBONES:
        ratio = rows['st-adapter', backbone, 3].gflops_full / rows['step', backbone, 3].gflops_full
        assert 2 < ratio < 3


def test_table_has_every_head_and_every_adapter(rows):
    methods = ' '.join(method for method, *_ in rows)
    for name in [*HEADS, *PEFT_METHODS]:
        assert name in methods


def test_gflops_grow_with_tasks_for_adapters_not_for_step():
    for title in BACKBONES:
        lines = scaling(title, 3)
        for name, gflops in lines.items():
            if name == 'STEP':
                assert gflops[2] < 1.3 * gflops[0]
            else:
                assert gflops[2] == pytest.approx(3 * gflops[0])


def test_fewer_tokens_make_the_head_cheaper():
    rows = grid_rows()
    dinov2 = [row for row in rows if row.backbone == DINOV2]
    assert [row.token_grid for row in dinov2] == [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    assert [row.tokens for row in dinov2] == [256, 64, 16, 4, 1]
    assert {row.frame_gflops for row in dinov2} == {dinov2[0].frame_gflops}
    # A quarter of the tokens costs a quarter of the projections (linear) and a sixteenth of the
    # attention's products (quadratic).
    for finer, coarser in pairwise(dinov2):
        assert 3.5 < finer.head_gflops / coarser.head_gflops < 16
    step = count_method(next(method for method in METHODS if method.name == 'step'), DINOV2)
    whole = 16 * dinov2[0].frame_gflops + dinov2[0].head_gflops
    assert step.gflops_full == pytest.approx(whole)
    assert {row.token_grid for row in rows if row.backbone == CLIP} == {
        (14, 14),
        (7, 7),
        (2, 2),
        (1, 1),
    }


def test_command_prints_the_table_and_writes_the_rows(tmp_path):
    written = tmp_path / 'deep' / 'rows.json'
    result = CliRunner().invoke(app, ['complexity', '--json', str(written)])
    assert result.exit_code == 0, result.output
    assert '8 x 8      64' in result.output
    for words in ('DINOv2 ViT-B/14', 'CLIP ViT-B/16', '536.5', 'three views against one'):
        assert words in result.output
    rows = json.loads(written.read_text())
    keys = ['method', 'backbone', 'tasks', 'params_m', 'gflops_full', 'gflops']
    keys += ['paper_params_m', 'paper_gflops']
    assert all(list(row) == keys for row in rows)
    step = next(row for row in rows if row['method'] == 'step' and row['tasks'] == 3)
    assert step['paper_gflops'] == 536.5


def test_plot_is_an_image(tmp_path):
    path = tmp_path / 'plots' / 'scaling.png'
    plot_scaling(path, most_tasks=3)
    assert cv2.imread(str(path)).std() > 10

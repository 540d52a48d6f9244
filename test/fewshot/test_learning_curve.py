# SPDX-License-Identifier: Apache-2.0
"""The learning curve: measured on a few clips, drawn, and put into a document."""

import pytest
import torch

from step_ros.fewshot.learning_curve import (
    FEWSHOT,
    FEWSHOT_REVERSED,
    curve_table,
    measure_curve,
    plot_curve,
    put_table,
)
from step_ros.model.bundle import load_bundle
from step_ros.resources import find_bundle
from step_ros.tabletop.unseen_actions import UNSEEN_ACTIONS

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def measured():
    bundle = load_bundle(find_bundle('tabletop-tiny'))
    before = {key: value.clone() for key, value in bundle.model.state_dict().items()}
    curve = measure_curve(bundle, counts=(1, 3), pool=3, draws=2, test_clips=3, scratch=False)
    for key, value in bundle.model.state_dict().items():
        assert torch.equal(value, before[key])
    assert bundle.model.backbone.consumed == 'patches'
    return curve


def test_few_examples_suffice_for_unseen_actions(measured):
    assert {(p.method, p.examples, p.draw) for p in measured.points} == {
        (method, count, draw)
        for method in (FEWSHOT, FEWSHOT_REVERSED)
        for count in (1, 3)
        for draw in (0, 1)
    }
    assert measured.test_clips == 3 * len(UNSEEN_ACTIONS)
    three = [point for point in measured.points if point.examples == 3]
    assert all(point.top1 >= 0.6 for point in three)
    assert all(point.symmetric_top1 >= 0.6 for point in three)


def test_curve_is_drawn_and_put_into_a_document(measured, tmp_path):
    plot_curve(measured, tmp_path / 'images' / 'teach.png')
    assert (tmp_path / 'images' / 'teach.png').read_bytes().startswith(b'\x89PNG')
    document = tmp_path / 'teach.md'
    document.write_text('before\n<!-- curve -->\nold\n<!-- end -->\nafter\n')
    table = curve_table(measured)
    for _ in range(2):
        put_table(document, table)
        assert document.read_text() == f'before\n<!-- curve -->\n{table}\n<!-- end -->\nafter\n'
    row = next(line for line in table.splitlines() if line.startswith(f'| {FEWSHOT} |'))
    at_three = [p.top1 for p in measured.points if (p.method, p.examples) == (FEWSHOT, 3)]
    assert f'{sum(at_three) / 2:.2f} ({min(at_three):.2f}-{max(at_three):.2f})' in row
    document.write_text('nothing')
    with pytest.raises(ValueError, match='expected one <!-- curve -->'):
        put_table(document, table)


def test_pool_smaller_than_a_count_is_refused(tiny_bundle):
    with pytest.raises(ValueError, match='pool=3: expected at least 5, the largest count'):
        measure_curve(tiny_bundle, counts=(1, 5), pool=3)

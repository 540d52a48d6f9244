# SPDX-License-Identifier: Apache-2.0
"""The streaming benchmark gives times, and the difference between plain and streaming heads."""

import pytest
import torch

from step_ros.benchmarks.stream import COLUMNS, StreamBenchmark, random_bundle, stream_table
from step_ros.encoders.base import TorchEncoder
from step_ros.model.bundle import load_bundle
from step_ros.reporting.machine import machine

pytestmark = pytest.mark.slow


def encoder(bundle):
    return TorchEncoder(bundle.model.backbone, device=torch.device('cpu'))


@pytest.mark.parametrize(('cameras', 'order_evidence'), [(1, True), (1, False), (3, True)])
def test_times_and_difference_of_a_bundle(cameras, order_evidence, tiny_bundle):
    benchmark = StreamBenchmark(
        tiny_bundle, encoder(tiny_bundle), cameras=cameras, order_evidence=order_evidence
    )
    times = benchmark.run(3)
    assert (times.backbone, times.tasks) == ('vit_tiny_patch16_224', 3)
    assert all(len(turns) == 3 for turns in times.details['turns_ms'].values())
    measured = (times.naive_ms, times.stream_ms, times.plain_heads_ms, times.stream_heads_ms)
    assert min(*measured, times.backbone_ms) > 0
    assert times.ratio == pytest.approx(times.naive_ms / times.stream_ms)
    assert times.max_abs_diff < 1e-4
    assert times.details['model_id'] == tiny_bundle.model_id
    assert times.details['kept'] == 'float32'
    assert times.details['bytes_per_camera'] == 3 * times.details['bytes_per_camera_and_task']


def test_wrong_logits_show_as_a_difference(tiny_bundle, monkeypatch):
    benchmark = StreamBenchmark(tiny_bundle, encoder(tiny_bundle))
    predict = tiny_bundle.model.predict

    def wrong(x_ctnd):
        return {task: logits + 0.5 for task, logits in predict(x_ctnd).items()}

    monkeypatch.setattr(tiny_bundle.model, 'predict', wrong)
    assert benchmark.run(1).max_abs_diff == pytest.approx(0.5, abs=1e-3)


def test_heads_that_do_not_stream_are_refused(tiny_model, save_tiny_bundle, tmp_path):
    save_tiny_bundle(tmp_path, tiny_model(head='linear'))
    benchmark = StreamBenchmark(load_bundle(tmp_path), encoder(load_bundle(tmp_path)))
    with pytest.raises(ValueError, match=r'nothing to compare: .*LinearProbe'):
        benchmark.run(1)


def test_no_turns_and_no_cameras_are_refused(tiny_bundle):
    with pytest.raises(ValueError, match='cameras=0'):
        StreamBenchmark(tiny_bundle, encoder(tiny_bundle), cameras=0)
    with pytest.raises(ValueError, match='turns=0'):
        StreamBenchmark(tiny_bundle, encoder(tiny_bundle)).run(0)


def test_random_bundle_has_the_requested_shape(tmp_path):
    bundle = random_bundle(
        'vit_tiny_patch16_224', tasks=2, frames=3, image_size=(32, 32), folder=tmp_path
    )
    assert len(bundle.spec.tasks) == 2
    assert (bundle.spec.frames, bundle.model.backbone.tokens) == (3, 4)
    assert bundle.spec.backbone.digest == 'random:0'
    coarse = random_bundle(
        'vit_tiny_patch16_224',
        tasks=1,
        frames=3,
        image_size=(32, 32),
        token_grid=(1, 2),
        folder=tmp_path,
    )
    times = StreamBenchmark(coarse, encoder(coarse)).run(1)
    assert (times.details['token_grid'], times.details['tokens_per_frame']) == ([1, 2], 2)
    assert times.max_abs_diff < 1e-4
    with pytest.raises(ValueError, match='tasks=0'):
        random_bundle('vit_tiny_patch16_224', tasks=0, frames=3, image_size=None, folder=tmp_path)


def test_table_has_a_line_for_each_row(tiny_bundle):
    times = StreamBenchmark(tiny_bundle, encoder(tiny_bundle)).run(1)
    header, rule, *lines = stream_table([times, times]).splitlines()
    assert [cell.strip() for cell in header.strip('|').split('|')] == list(COLUMNS)
    assert rule.count('|') == header.count('|') == lines[0].count('|')
    assert len(lines) == 2
    assert f'| {times.ratio:.1f} |' in lines[0]


def test_machine_is_described():
    described = machine()
    assert described['threads'] == torch.get_num_threads()
    assert described['processor']
    assert described['torch'] == torch.__version__

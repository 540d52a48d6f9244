# SPDX-License-Identifier: Apache-2.0
"""Ablations: a grid of heads, fitted on a few videos."""

import numpy as np
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from step_ros.datasets.clip import ClipRecord
from step_ros.experiments.report import write_report
from step_ros.experiments.run import ablate, chosen_clips
from step_ros.experiments.spec import load_ablation
from step_ros.training import fit as fit_module
from step_ros.training.fit import FitError

pytestmark = pytest.mark.slow

INVARIANT = ('linear', 'attentive', 'self-attention')


def spec_of(content, folder, name='ablation.yaml'):
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return load_ablation(path)


def without(content, *tables):
    """Return the content without some tables."""
    content['tables'] = {
        key: value for key, value in content['tables'].items() if key not in tables
    }
    return content


def test_rows_with_the_same_settings_are_one_run(light_ablation):
    result, _ = light_ablation
    assert result.run('probes', 'step') is result.run('shares', 'step-100')
    # Four probes, two rows with less data, one row with one view.
    assert len(result.runs) == 7
    assert result.clips == {'train': 30, 'val': 0, 'test': 18}
    assert result.left_out == 0
    assert result.frame_period == pytest.approx(0.2)


def test_loss_falls_and_is_kept_for_each_epoch(light_ablation):
    result, _ = light_ablation
    for run in result.runs.values():
        assert len(run.loss) == 4
        assert run.loss[-1] < run.loss[0]


@pytest.mark.parametrize('row', INVARIANT)
def test_order_blind_heads_score_the_same_in_every_order(row, light_ablation):
    metrics = light_ablation[0].run('probes', row).metrics['all']
    for order in ('reversed', 'shuffled'):
        for name in ('top1', 'symmetric_top1', 'balanced', 'to_counterpart'):
            assert metrics[order]['action'][name] == metrics['correct']['action'][name]


def test_step_scores_differ_with_the_order(light_ablation):
    metrics = light_ablation[0].run('probes', 'step').metrics['all']
    assert metrics['reversed']['action'] != metrics['correct']['action']
    assert metrics['shuffled']['action'] != metrics['correct']['action']


def test_unseen_views_are_scored_separately(light_ablation):
    run = light_ablation[0].run('views', 'step')
    assert run.training_clips == 15
    clips = {view: run.metrics[view]['correct']['action']['clips'] for view in run.metrics}
    assert clips == {'all': 18, 'trained': 9, 'unseen': 9}
    parts = [run.metrics[view]['correct']['action']['top1'] for view in ('trained', 'unseen')]
    assert run.metrics['all']['correct']['action']['top1'] == pytest.approx(
        np.mean(parts), abs=1e-4
    )


def test_less_data_is_a_share_of_every_label(light_ablation):
    result, _ = light_ablation
    assert result.run('shares', 'step-20').training_clips == 6
    assert result.run('shares', 'step-100').training_clips == 30


def test_heads_and_scores_of_a_run_are_kept(light_ablation):
    result, _ = light_ablation
    run = result.run('probes', 'step')
    tensors = load_file(run.folder / 'heads.safetensors')
    assert sum(tensor.size for tensor in tensors.values()) == run.parameters
    assert all(name.startswith('action/') for name in tensors)
    with np.load(run.folder / 'scores.npz') as arrays:
        assert len(set(arrays['clips'].tolist())) == 18
        assert arrays['scores/action'].shape == (18, 3)
        np.testing.assert_allclose(arrays['scores/action'].sum(axis=1), 1, atol=1e-5)
        assert arrays['features/action'].shape == (18, 128)


def test_finished_runs_are_reused(light_ablation, light_content, tmp_path):
    result, folder = light_ablation
    before = {path: path.stat().st_mtime_ns for path in folder.rglob('*') if path.is_file()}
    again = ablate(spec_of(light_content(title='Another title'), tmp_path), folder)
    assert again.runs == result.runs
    after = {path: path.stat().st_mtime_ns for path in folder.rglob('*') if path.is_file()}
    assert after == before


def test_interrupted_ablation_ends_with_the_same_results(
    light_ablation, light_content, tmp_path, monkeypatch
):
    whole, _ = light_ablation
    content = without(light_content(findings=[], pictured=[]), 'probes', 'views')
    spec = spec_of(content, tmp_path)
    save, saved = fit_module.save_checkpoint, []

    def save_and_die(folder, **state):
        save(folder, **state)
        saved.append(state['epoch'])
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, 'save_checkpoint', save_and_die)
    with pytest.raises(KeyboardInterrupt):
        ablate(spec, tmp_path / 'out')
    result = ablate(spec, tmp_path / 'out')
    # Two passes of four epochs each, and no epoch twice.
    assert saved == [1, 2, 3, 4, 1, 2, 3, 4]
    assert len(result.runs) == 4
    for key, run in result.runs.items():
        assert run.loss == whole.runs[key].loss
        assert run.metrics == whole.runs[key].metrics
        tensors, expected = (
            load_file(each.folder / 'heads.safetensors') for each in (run, whole.runs[key])
        )
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(tensor, expected[name])


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'task': 'verb'}, "'verb' is no task of the data; choose among action"),
        ({'views': ['back']}, 'no training clip is from the view back; choose among front, top'),
    ],
)
def test_missing_task_and_view_are_named(changes, reason, light_content, tmp_path):
    content = without(light_content(findings=[], pictured=[]), 'shares', 'probes')
    table = content['tables']['views']
    if 'task' in changes:
        table['task'] = changes['task']
    else:
        table['rows']['step'] = {'title': 'STEP', **changes}
    with pytest.raises(FitError, match=reason):
        ablate(spec_of(content, tmp_path), tmp_path / 'out')


records = st.lists(
    st.tuples(st.sampled_from(['open', 'close', 'wave']), st.sampled_from(['front', 'top'])),
    min_size=1,
    max_size=40,
).map(
    lambda clips: [
        ClipRecord(
            clip_id=str(number), video='v.mp4', split='train', labels={'action': label}, view=view
        )
        for number, (label, view) in enumerate(clips)
    ]
)


@given(records, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 5))
def test_smaller_share_is_part_of_a_larger_one(clips, one, other, seed):
    small, large = (
        chosen_clips(clips, share=share, views=(), seed=seed) for share in sorted((one, other))
    )
    assert {clip.clip_id for clip in small} <= {clip.clip_id for clip in large}
    assert {clip.labels['action'] for clip in small} == {clip.labels['action'] for clip in clips}
    whole = chosen_clips(clips, share=1, views=(), seed=seed)
    assert sorted(clip.clip_id for clip in whole) == sorted(clip.clip_id for clip in clips)


@given(records, st.floats(0.01, 1))
def test_clips_of_other_views_are_never_chosen(clips, share):
    assume(any(clip.view == 'top' for clip in clips))
    chosen = chosen_clips(clips, share=share, views=('top',), seed=0)
    assert {clip.view for clip in chosen} == {'top'}


# ---- fewer tokens


def grids(content, **rows):
    """Return the content with one table only: STEP on several token grids."""
    row = {'title': 'STEP', 'options': {'position_std': 1.0, 'positions': 'token-wise'}}
    table = {
        'title': 'Fewer tokens',
        'task': 'action',
        'columns': [{'title': 'GFLOPs', 'metric': 'gflops'}, {'title': 'top-1', 'metric': 'top1'}],
        'rows': {key: {**row, **changes} for key, changes in rows.items()},
    }
    pictured = [f'grids/{key}' for key in rows]
    return {**content, 'tables': {'grids': table}, 'findings': [], 'pictured': pictured}


def test_coarse_grid_of_a_row_equals_that_of_a_backbone(light_content, tmp_path):
    content = grids(light_content(), full={}, coarse={'token_grid': [3, 2]})
    result = ablate(spec_of(content, tmp_path), tmp_path / 'out')
    full, coarse = result.run('grids', 'full'), result.run('grids', 'coarse')
    # Position embeddings of 48 or 6 tokens for each of 8 frames, 128 wide.
    assert full.parameters - coarse.parameters == (48 - 6) * 8 * 128
    cost = {key: result.gflops[result.run('grids', key).spec.key] for key in ('full', 'coarse')}
    assert cost['full'] > 8 * cost['coarse'] > 0
    report = tmp_path / 'report.md'
    write_report([result], report, command='step_ros ablate')
    assert f'| {cost["coarse"]:.4f} |' in report.read_text()
    assert len(list((tmp_path / 'images').glob('*attention*.png'))) == 1

    content = grids(light_content(), coarse={})
    content['recipe'] = {
        **content['recipe'],
        'backbone': {'bundle': 'tabletop-tiny', 'token_grid': [3, 2]},
    }
    other = ablate(spec_of(content, tmp_path), tmp_path / 'backbone')
    assert 'tokens averaged onto 3 x 2' in other.backbone
    # The caches round to half floats: one keeps the patch tokens, the other their averages.
    same = other.run('grids', 'coarse')
    assert same.loss == pytest.approx(coarse.loss, abs=2e-2)
    assert same.parameters == coarse.parameters


def test_bad_token_grid_is_refused_before_encoding(light_content, tmp_path):
    content = grids(light_content(), odd={'token_grid': [4, 4]})
    content['recipe']['data'] = {**content['recipe']['data'], 'root': str(tmp_path / 'nowhere')}
    reason = r'tables\.grids\.rows\.odd\.token_grid: token grid 4 x 4 .* of 6 x 8 tokens'
    with pytest.raises(FitError, match=reason):
        ablate(spec_of(content, tmp_path), tmp_path / 'out')

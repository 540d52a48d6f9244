# SPDX-License-Identifier: Apache-2.0
"""Fitting heads: STEP learns order, its twin without positions cannot; stops and errors."""

import numpy as np
import pytest
import torch

from step_ros.model.backbone import TokenAverage
from step_ros.model.heads.registry import create_head
from step_ros.training.checkpoint import CheckpointError
from step_ros.training.config import HeadOptimisation
from step_ros.training.distributed import Distributed
from step_ros.training.fit import FitError, FitRun, fit, fit_temperature
from step_ros.training.windows import NO_LABEL, label_numbers

FRAMES = 4
LABELS = {'action': ('rise', 'fall')}
WIDTH = 16


class RampClip:
    """Tokens of a clip's frames, `[f, n, d]`, and its labels."""

    def __init__(self, tokens_fnd, labels):
        self.tokens_fnd, self.labels = tokens_fnd, labels


class ClipWindows:
    """Windows of clips: they start at any frame that leaves a whole window."""

    kind = 'patches'

    def __init__(self, clips, tasks):
        self._clips = clips
        self.targets = label_numbers([clip.labels for clip in clips], tasks)

    def __len__(self):
        return len(self._clips)

    def choose(self, index, rng):
        return int(rng.choice(len(self._clips[index].tokens_fnd) - FRAMES + 1))

    def read(self, index, choice):
        return self._clips[index].tokens_fnd[choice : choice + FRAMES].float()


def ramp_clip(rng, label, length=6):
    """A clip whose tokens hold a level that rises or falls: the same frames in opposite order."""
    levels = np.linspace(-1, 1, length) + 0.05 * rng.normal(size=length)
    if label == 'fall':
        levels = levels[::-1].copy()
    tokens = 0.1 * rng.normal(size=(length, 3, WIDTH))
    tokens[:, :, 0] += levels[:, None]
    return RampClip(torch.from_numpy(tokens).half(), {'action': label})


def ramp_head(**options):
    given = {'width': WIDTH, 'frames': FRAMES, 'tokens': 3, 'classes': 2, 'attention_heads': 2}
    return create_head('step', **{**given, **options})


def ramp_windows(clips):
    return ClipWindows(clips, LABELS)


def fitted_accuracy(positions):
    rng = np.random.default_rng(0)
    names = LABELS['action']
    clips = [ramp_clip(rng, names[index % 2]) for index in range(64)]
    torch.manual_seed(0)
    head = ramp_head(positions=positions)
    how = HeadOptimisation(epochs=30, batch=16, learning_rate=1e-2, weight_decay=0.0)
    fit({'run': FitRun(heads={'action': head}, how=how)}, ramp_windows(clips), seed=0)
    # Whole ramps only: the end of a rise and the start of a fall look alike.
    fresh = [ramp_clip(rng, names[index % 2], length=FRAMES) for index in range(60)]
    x_btnd = torch.stack([clip.tokens_fnd[:FRAMES].float() for clip in fresh])
    predicted = head(x_btnd).argmax(dim=1).numpy()
    return float((predicted == np.arange(60) % 2).mean())


def test_step_learns_the_order_of_frames():
    assert fitted_accuracy('learnable') >= 0.95


def test_without_positions_order_is_not_learned():
    assert 0.25 <= fitted_accuracy('none') <= 0.75


def test_few_samples_limit_the_confidence():
    targets = torch.arange(8) % 2
    always_right = 4.0 * (2 * torch.nn.functional.one_hot(targets, 2).float() - 1)
    assert fit_temperature(always_right, targets) == 0.1
    for samples, expected in ((4, 5 / 6), (8, 9 / 10)):
        temperature = fit_temperature(always_right, targets, samples=samples)
        belief = (always_right / temperature).softmax(dim=1).amax(dim=1)
        assert belief.numpy() == pytest.approx(expected, abs=0.01)


def test_temperature_corrects_overconfidence():
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 3, 4000)
    logits = torch.from_numpy(rng.normal(size=(4000, 3)))
    logits[np.arange(4000), targets] += 1.0
    right = fit_temperature(logits, torch.from_numpy(targets))
    assert fit_temperature(5 * logits, torch.from_numpy(targets)) == pytest.approx(
        5 * right, rel=0.1
    )


# ---- several runs at once; stop and resume

HOW = {'epochs': 4, 'batch': 8, 'learning_rate': 1e-2}


def clips_of(count=24, seed=0):
    rng = np.random.default_rng(seed)
    return [ramp_clip(rng, LABELS['action'][index % 2]) for index in range(count)]


def two_runs(**how):
    torch.manual_seed(0)
    return {
        'slow': FitRun(
            heads={'action': ramp_head()}, how=HeadOptimisation(**{**HOW, 'learning_rate': 1e-4})
        ),
        'sgd': FitRun(
            heads={'action': ramp_head(classifier='mlp')},
            how=HeadOptimisation(**{**HOW, 'optimiser': 'sgd', 'label_smoothing': 0.1, **how}),
        ),
    }


def weights(runs):
    return {
        f'{name}.{key}': value.clone()
        for name, run in runs.items()
        for key, value in run.heads['action'].state_dict().items()
    }


def same(ones, others):
    return all(torch.equal(ones[key], others[key]) for key in ones | others)


def test_runs_fitted_at_once_equal_runs_fitted_alone():
    together = two_runs()
    fit(together, ramp_windows(clips_of()), seed=1)
    for name, run in two_runs().items():
        fit({name: run}, ramp_windows(clips_of()), seed=1)
        assert same(weights({name: run}), weights({name: together[name]}))


def test_the_loss_falls_and_is_returned_for_each_epoch():
    history = fit(two_runs(), ramp_windows(clips_of()), seed=1)
    assert len(history) == HOW['epochs']
    assert history[-1]['sgd'] < history[0]['sgd']


class Stopping:
    """Windows that interrupt the fit after a number of reads."""

    def __init__(self, windows, reads):
        self._windows, self._left = windows, reads
        self.kind, self.targets = windows.kind, windows.targets

    def __len__(self):
        return len(self._windows)

    def choose(self, index, rng):
        return self._windows.choose(index, rng)

    def read(self, index, choice):
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._windows.read(index, choice)


@pytest.mark.parametrize('epochs_done', [0, 1, 3])
def test_a_resumed_fit_equals_an_uninterrupted_one(epochs_done, tmp_path):
    whole = two_runs()
    expected = fit(whole, ramp_windows(clips_of()), seed=1)
    stopping = Stopping(ramp_windows(clips_of()), 24 * epochs_done + 13)
    with pytest.raises(KeyboardInterrupt):
        fit(two_runs(), stopping, seed=1, checkpoint=tmp_path / 'state')
    resumed = two_runs()
    seen = Stopping(ramp_windows(clips_of()), 24 * (4 - epochs_done))
    assert fit(resumed, seen, seed=1, checkpoint=tmp_path / 'state') == expected
    assert same(weights(resumed), weights(whole))
    # A finished fit reads no more windows.
    again = two_runs()
    fit(again, Stopping(ramp_windows(clips_of()), 0), seed=1, checkpoint=tmp_path / 'state')
    assert same(weights(again), weights(whole))


def test_a_checkpoint_survives_a_kill_between_renames(tmp_path):
    state = tmp_path / 'state'
    runs = two_runs()
    fit(runs, ramp_windows(clips_of()), seed=1, checkpoint=state)
    state.rename(tmp_path / 'state.old')
    again = two_runs()
    fit(again, Stopping(ramp_windows(clips_of()), 0), seed=1, checkpoint=state)
    assert same(weights(again), weights(runs))


@pytest.mark.parametrize(
    ('seed', 'count', 'how'), [(2, 24, {}), (1, 22, {}), (1, 24, {'weight_decay': 0.5})]
)
def test_a_checkpoint_of_another_fit_is_refused(seed, count, how, tmp_path):
    fit(two_runs(), ramp_windows(clips_of()), seed=1, checkpoint=tmp_path / 'state')
    with pytest.raises(CheckpointError, match='of a fit with other settings'):
        fit(
            two_runs(**how),
            ramp_windows(clips_of(count)),
            seed=seed,
            checkpoint=tmp_path / 'state',
        )


def test_a_checkpoint_of_exchanged_labels_is_refused(tmp_path):
    """Their numbers have the same sum."""
    clips = clips_of()
    fit(two_runs(), ramp_windows(clips), seed=1, checkpoint=tmp_path / 'state')
    clips[0], clips[1] = clips[1], clips[0]
    with pytest.raises(CheckpointError, match='labels of the clips'):
        fit(two_runs(), ramp_windows(clips), seed=1, checkpoint=tmp_path / 'state')


def test_a_checkpoint_of_other_tokens_is_refused(tmp_path):
    state = tmp_path / 'state'
    fit(two_runs(), ramp_windows(clips_of()), seed=1, tokens='a', checkpoint=state)
    with pytest.raises(CheckpointError, match=r'tokens .*: a there, b now'):
        fit(two_runs(), ramp_windows(clips_of()), seed=1, tokens='b', checkpoint=state)


def test_checkpoint_files_are_safetensors_and_json(tmp_path):
    fit(two_runs(), ramp_windows(clips_of()), seed=1, checkpoint=tmp_path / 'state')
    names = sorted(path.name for path in (tmp_path / 'state').iterdir())
    assert names == ['heads.safetensors', 'optimisers.safetensors', 'state.json']


def test_label_smoothing_changes_the_weights():
    plain, smooth = two_runs(label_smoothing=0.0), two_runs(label_smoothing=0.3)
    for runs in (plain, smooth):
        fit({'sgd': runs['sgd']}, ramp_windows(clips_of()), seed=1)
    assert not same(weights({'sgd': plain['sgd']}), weights({'sgd': smooth['sgd']}))


def test_losses_are_written_to_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as log:
        history = fit(two_runs(), ramp_windows(clips_of()), seed=1, log=log)
    events = EventAccumulator(str(tmp_path)).Reload()
    for name in ('slow', 'sgd'):
        logged = [event.value for event in events.Scalars(f'loss/{name}')]
        assert logged == pytest.approx([sums[name] for sums in history])


# ---- missing labels, and errors


def test_clips_without_a_label_train_the_other_tasks():
    rng = np.random.default_rng(0)
    clips = [ramp_clip(rng, LABELS['action'][index % 2]) for index in range(16)]
    for clip in clips[:8]:
        clip.labels['verb'] = clip.labels.pop('action')
    windows = ClipWindows(clips, {'action': LABELS['action'], 'verb': LABELS['action']})
    assert (windows.targets['action'] == NO_LABEL).sum() == 8
    heads = {'action': ramp_head(), 'verb': ramp_head()}
    before = {task: head.classifier.bias.clone() for task, head in heads.items()}
    how = HeadOptimisation(epochs=2, batch=4, weight_decay=0.0)
    (first, *_) = fit({'run': FitRun(heads=heads, how=how)}, windows, seed=0)
    assert np.isfinite(first['run'])
    for task, head in heads.items():
        assert not torch.equal(head.classifier.bias, before[task])


def test_an_unknown_label_is_named():
    with pytest.raises(ValueError, match=r"clip 1: 'hover' is no label of task 'action'; .*rise"):
        label_numbers([{'action': 'rise'}, {'action': 'hover'}], LABELS)


def test_a_loss_that_is_not_finite_keeps_the_checkpoint(tmp_path):
    clips = clips_of()
    how = HeadOptimisation(**{**HOW, 'epochs': 2})
    fit(
        {'run': FitRun(heads={'action': ramp_head()}, how=how)},
        ramp_windows(clips),
        seed=1,
        checkpoint=tmp_path / 'state',
    )
    for clip in clips:
        clip.tokens_fnd[:] = float('nan')
    torch.manual_seed(0)
    run = FitRun(heads={'action': ramp_head()}, how=how)
    with pytest.raises(FitError, match=r"run 'run': the loss is nan in epoch 1; a lower learning"):
        fit({'run': run}, ramp_windows(clips), seed=1)
    assert (tmp_path / 'state' / 'state.json').is_file()


def test_runs_and_windows_that_do_not_fit_are_refused():
    windows = ramp_windows(clips_of())
    with pytest.raises(FitError, match='no runs to fit'):
        fit({}, windows, seed=0)
    with pytest.raises(FitError, match='is the split empty'):
        fit(two_runs(), ramp_windows([]), seed=0)
    with pytest.raises(FitError, match=r'same epochs and batch; found \[\(4, 8\), \(5, 8\)\]'):
        fit(two_runs(epochs=5), windows, seed=0)
    run = FitRun(heads={'verb': ramp_head()}, how=HeadOptimisation())
    with pytest.raises(FitError, match="no labels for task 'verb'"):
        fit({'run': run}, windows, seed=0)
    with pytest.raises(FitError, match='no dot'):
        fit({'a.b': two_runs()['sgd']}, windows, seed=0)
    unlabelled = ClipWindows(clips_of(), {'verb': ('turn', 'push')})
    with pytest.raises(FitError, match="no window has a label for task 'verb'"):
        fit({'run': run}, unlabelled, seed=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device here')
def test_cuda_gives_the_losses_of_the_cpu():
    expected = fit(two_runs(), ramp_windows(clips_of()), seed=1)
    runs = two_runs()
    found = fit(
        runs,
        ramp_windows(clips_of()),
        seed=1,
        distributed=Distributed(device=torch.device('cuda')),
    )
    assert {p.device.type for run in runs.values() for p in run.heads['action'].parameters()} == {
        'cuda'
    }
    for cpu, cuda in zip(expected, found, strict=True):
        assert cuda == pytest.approx(cpu, rel=1e-2)


def test_fewer_frames_are_spread_over_the_window():
    run = FitRun(heads={'action': ramp_head(frames=2)}, how=HeadOptimisation())
    x_btnd = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 3, WIDTH)
    assert run.tokens_of(x_btnd, 'patches')[0, :, 0, 0].tolist() == [0, 2]
    x_btnd = torch.arange(16.0).view(1, 16, 1, 1).expand(1, 16, 3, WIDTH)
    assert run.tokens_of(x_btnd, 'patches')[0, :, 0, 0].tolist() == [3, 11]
    x_btnd = x_btnd[:, :4]
    with pytest.raises(
        ValueError, match='heads of 3 frames cannot take evenly spread frames of 4'
    ):
        FitRun(heads={'action': ramp_head(frames=3)}, how=HeadOptimisation()).tokens_of(
            x_btnd, 'patches'
        )


@pytest.mark.parametrize(
    ('name', 'expected'), [('step', [2, 3]), ('linear', [0]), ('self-attention', [0, 2, 3])]
)
def test_fewer_tokens_are_averages_of_the_heads_tokens(name, expected):
    head = create_head(name, width=WIDTH, frames=4, tokens=2, classes=2)
    average = TokenAverage(given=(2, 2), token_grid=(1, 2))
    run = FitRun(heads={'action': head}, how=HeadOptimisation(), average=average)
    x_btnd = torch.arange(5.0).view(1, 1, 5, 1).expand(1, 4, 5, WIDTH)  # CLS and 2 x 2 patches
    assert run.tokens_of(x_btnd, 'all')[0, 0, :, 0].tolist() == expected


@pytest.mark.parametrize(('name', 'first'), [('step', 1), ('linear', 0), ('attentive', 0)])
def test_each_head_gets_the_tokens_it_consumes(name, first):
    head = create_head(name, width=WIDTH, frames=4, tokens=3, classes=2)
    run = FitRun(heads={'action': head}, how=HeadOptimisation())
    x_btnd = torch.arange(4.0).view(1, 1, 4, 1).expand(1, 4, 4, WIDTH)
    taken = run.tokens_of(x_btnd, 'all')
    assert (
        taken[0, 0, :, 0].tolist()
        == {
            'patches': [1, 2, 3],
            'cls': [0],
            'all': [0, 1, 2, 3],
        }[head.consumes]
    )
    assert int(taken[0, 0, 0, 0]) == first
    if head.consumes != 'patches':
        with pytest.raises(ValueError, match="only 'patches' tokens are given"):
            run.tokens_of(x_btnd, 'patches')

"""Fitting heads: STEP learns what only order tells, its order-blind twin cannot."""

import numpy as np
import pytest
import torch

from step_ros.model.step import StepHead
from step_ros.training.clips import ClipTokens, cut_window, window_starts
from step_ros.training.fit import fit_heads, fit_temperature
from step_ros.training.recipe import Optimisation

PERIOD = 0.2
FRAMES = 4
LABELS = {'action': ('rise', 'fall')}
WIDTH = 16


def ramp_clip(rng, label, length=6):
    """A clip whose tokens hold a level that rises or falls: the same frames in opposite order."""
    levels = np.linspace(-1, 1, length) + 0.05 * rng.normal(size=length)
    if label == 'fall':
        levels = levels[::-1].copy()
    tokens = 0.1 * rng.normal(size=(length, 3, WIDTH))
    tokens[:, :, 0] += levels[:, None]
    return ClipTokens(
        tokens_fnd=torch.from_numpy(tokens).half(),
        stamps_ns=np.arange(length) * 200_000_000,
        labels={'action': label},
    )


def fitted_accuracy(positions):
    rng = np.random.default_rng(0)
    names = LABELS['action']
    clips = [ramp_clip(rng, names[index % 2]) for index in range(64)]
    torch.manual_seed(0)
    head = StepHead(width=WIDTH, frames=FRAMES, classes=2, attention_heads=2, positions=positions)
    recipe = Optimisation(epochs=30, batch=16, learning_rate=1e-2, weight_decay=0.0)
    fit_heads({'action': head}, clips, LABELS, recipe, frames=FRAMES, frame_period=PERIOD, seed=0)
    # Centred windows: a window from the end of a rise and one from the start of a fall look alike.
    fresh = [ramp_clip(rng, names[index % 2], length=FRAMES) for index in range(60)]
    x_btnd = torch.stack(
        [cut_window(clip, 0, frames=FRAMES, frame_period=PERIOD) for clip in fresh]
    )
    answers = head(x_btnd).argmax(dim=1).numpy()
    return float((answers == np.arange(60) % 2).mean())


def test_step_learns_order():
    assert fitted_accuracy('learnable') >= 0.95


def test_without_positions_order_stays_hidden():
    assert 0.25 <= fitted_accuracy('none') <= 0.75


def test_windows_are_cut_on_the_stream_s_grid():
    clip = ClipTokens(
        tokens_fnd=torch.arange(9).view(9, 1, 1).half(),
        stamps_ns=np.arange(9) * 100_000_000,
        labels={},
    )
    assert window_starts(clip, frames=4, frame_period=PERIOD) == [0, 1, 2]
    assert cut_window(clip, 1, frames=4, frame_period=PERIOD).flatten().tolist() == [1, 3, 5, 7]


def test_temperature_undoes_overconfidence():
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 3, 4000)
    logits = torch.from_numpy(rng.normal(size=(4000, 3)))
    logits[np.arange(4000), targets] += 1.0
    right = fit_temperature(logits, torch.from_numpy(targets))
    assert fit_temperature(5 * logits, torch.from_numpy(targets)) == pytest.approx(
        5 * right, rel=0.1
    )

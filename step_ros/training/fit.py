"""Fitting heads on the tokens of a frozen encoder: many runs on one pass over the tokens."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from step_ros.model.backbone import TokenAverage
from step_ros.model.heads.base import Head
from step_ros.model.tokens import TokenKind, select_tokens
from step_ros.reporting.progress import track
from step_ros.training.checkpoint import load_checkpoint, save_checkpoint
from step_ros.training.config import HeadOptimisation
from step_ros.training.distributed import ALONE, Distributed
from step_ros.training.windows import NO_LABEL, Windows

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


# ---- The learning rate's course: a short linear warm-up, then a half cosine down to nothing.

WARM_UP = 0.03


def cosine_schedule(optimiser: Optimizer, steps: int, *, done: int = 0) -> LambdaLR:
    """Return a schedule to be stepped once for each optimiser step.

    Args:
        optimiser: Its learning rates are the peaks.
        steps: Optimiser steps in all; the first 3 % warm up.
        done: Steps that were taken before.
    """
    warm_up = max(1, round(WARM_UP * steps))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        done = (step - warm_up) / max(1, steps - warm_up)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return LambdaLR(optimiser, lambda step: factor(step + done))


MOMENTUM = 0.9


class FitError(RuntimeError):
    """A fit cannot begin or has gone astray."""


@dataclass(frozen=True, kw_only=True)
class FitRun:
    """Heads that are fitted together, one for each task, and how.

    Attributes:
        heads: A head for each task; all consume the same tokens of as many frames.
        how: Optimiser and schedule.
        average: How patch tokens are averaged before the heads see them; None where they are not.
    """

    heads: Mapping[str, Head]
    how: HeadOptimisation
    average: TokenAverage | None = None

    def tokens_of(self, x_btnd: Tensor, given: TokenKind) -> Tensor:
        """Take from windows what the heads consume.

        Heads of fewer frames get the middle one (the earlier of two) of each of as many equal
        parts, so that the frames stay centred in the window. Heads of a coarser token grid get
        averages of neighbouring patch tokens.

        Args:
            x_btnd: Tokens of windows.
            given: Which tokens of a frame these are.

        Raises:
            ValueError: The windows lack tokens, or the heads' frames do not divide theirs.
        """
        head = next(iter(self.heads.values()))
        frames = x_btnd.shape[1]
        if frames % head.frames:
            raise ValueError(
                f'heads of {head.frames} frames cannot take evenly spread ones of {frames}'
            )
        stride = frames // head.frames
        x_btnd = x_btnd[:, (stride - 1) // 2 :: stride]
        x_btnd = select_tokens(x_btnd, given=given, wanted=head.consumes)
        return x_btnd if self.average is None else self.average(x_btnd, head.consumes)


def fit(
    runs: Mapping[str, FitRun],
    windows: Windows,
    *,
    seed: int,
    checkpoint: Path | None = None,
    log: 'SummaryWriter | None' = None,
    team: Distributed = ALONE,
) -> list[dict[str, float]]:
    """Fit all runs at once, in place, on one window of each clip per epoch.

    All runs see the same windows in the same order, so that their differences are their own.

    Args:
        runs: What is fitted, by name; epochs and batch must be the same in all.
        windows: What to learn from.
        seed: Decides order and windows.
        checkpoint: Folder for the state after each epoch; a fit that finds one there goes on from
            it, to the bit as if it had never stopped (on a CPU). None keeps none.
        log: Where losses and learning rates go.
        team: The processes that share each batch; the heads move to its device.

    Returns:
        Mean loss of each run, epoch by epoch.

    Raises:
        FitError: There is nothing to learn from, runs do not go together, or a loss is not finite.
        CheckpointError: The checkpoint is that of another fit.
    """
    how = _common(runs, windows)
    steps = math.ceil(len(windows) / how.batch)
    heads = nn.ModuleDict({name: nn.ModuleDict(run.heads) for name, run in runs.items()})
    heads.to(team.device)
    optimisers = {name: _optimiser(run) for name, run in runs.items()}
    identity = _identity(runs, windows, seed)
    rng = np.random.default_rng(seed)
    done, history = 0, list[dict[str, float]]()
    if checkpoint is not None:
        done, history = load_checkpoint(
            checkpoint, identity=identity, heads=heads, optimisers=optimisers, rng=rng
        )
    schedules = {
        name: cosine_schedule(optimiser, how.epochs * steps, done=done * steps)
        for name, optimiser in optimisers.items()
    }
    heads.train()
    for epoch in range(done, how.epochs):
        order = np.array_split(rng.permutation(len(windows)), steps)
        sums = dict.fromkeys(runs, 0.0)
        what = f'fit heads, epoch {epoch + 1}/{how.epochs}'
        for chosen in track(order, what, steps, shown=team.is_main_process):
            batch = _Batch(windows, chosen, rng, team)
            for name, run in runs.items():
                optimisers[name].zero_grad()
                loss = batch.backward(run)
                if loss is None:
                    continue
                if not math.isfinite(loss):
                    raise FitError(
                        f'run {name!r}: the loss is {loss} in epoch {epoch + 1}; a lower '
                        f'learning rate than {run.how.learning_rate:g} may help'
                    )
                optimisers[name].step()
                schedules[name].step()
                sums[name] += loss * len(chosen) / len(windows)
        history.append(sums)
        if log is not None and team.is_main_process:
            for name, mean in sums.items():
                log.add_scalar(f'loss/{name}', mean, epoch + 1)
                rate = optimisers[name].param_groups[0]['lr']
                log.add_scalar(f'learning_rate/{name}', rate, epoch + 1)
        if checkpoint is not None and team.is_main_process:
            save_checkpoint(
                checkpoint,
                epoch=epoch + 1,
                identity=identity,
                heads=heads,
                optimisers=optimisers,
                rng=rng,
                history=history,
            )
    heads.eval()
    team.wait()
    return history


class _Batch:
    """This process's part of a batch.

    All processes choose all windows, so that they draw the random numbers that one alone would
    draw; each reads its own.
    """

    def __init__(
        self, windows: Windows, chosen: np.ndarray, rng: np.random.Generator, team: Distributed
    ) -> None:
        choices = [(int(index), windows.choose(int(index), rng)) for index in chosen]
        own = team.part(choices)
        self._x_btnd: Tensor | None = None
        if own:
            x_btnd = torch.stack([windows.read(index, choice) for index, choice in own])
            self._x_btnd = x_btnd.to(team.device)
        self._kind, self._team = windows.kind, team
        self._all = {task: numbers[chosen] for task, numbers in windows.targets.items()}
        self._own = {
            task: numbers[team.rank :: team.size].to(team.device)
            for task, numbers in self._all.items()
        }

    def backward(self, run: FitRun) -> float | None:
        """Add the gradients of the whole batch's loss; None if it has no labels for the run."""
        if not any(bool((self._all[task] != NO_LABEL).any()) for task in run.heads):
            return None
        loss = self._loss(run)
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]
        if self._team.size == 1:
            return None if loss is None else loss.item()
        parameters = [each for head in run.heads.values() for each in head.parameters()]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        total = torch.zeros(1, device=self._team.device) if loss is None else loss.detach().view(1)
        gradients = [each.grad for each in parameters if each.grad is not None]
        self._team.add_up([total, *gradients])
        return float(total)

    def _loss(self, run: FitRun) -> Tensor | None:
        """Sum the cross-entropies of the tasks, of which other processes have other parts."""
        if self._x_btnd is None:
            return None
        x_btnd = run.tokens_of(self._x_btnd, self._kind)
        losses = []
        for task, head in run.heads.items():
            known = self._own[task] != NO_LABEL
            if not bool(known.any()):
                continue
            logits_bk = head(x_btnd if bool(known.all()) else x_btnd[known])
            mean = F.cross_entropy(
                logits_bk, self._own[task][known], label_smoothing=run.how.label_smoothing
            )
            share = int(known.sum()) / int((self._all[task] != NO_LABEL).sum())
            losses.append(mean * share if share < 1 else mean)
        return torch.stack(losses).sum() if losses else None


def _common(runs: Mapping[str, FitRun], windows: Windows) -> HeadOptimisation:
    """Return the settings that all runs share."""
    if not runs:
        raise FitError('there are no runs to fit')
    if len(windows) == 0:
        raise FitError('there are no windows to learn from; is the split empty?')
    kinds = {(run.how.epochs, run.how.batch) for run in runs.values()}
    if len(kinds) > 1:
        raise FitError(
            f'runs fitted at once need the same epochs and batch; found {sorted(kinds)}'
        )
    for name, run in runs.items():
        if '.' in name or not name:
            raise FitError(f'run {name!r}: a name has letters, and no dot')
        for task in run.heads:
            if task not in windows.targets:
                raise FitError(f'run {name!r}: the windows have no labels for task {task!r}')
            if bool((windows.targets[task] == NO_LABEL).all()):
                raise FitError(f'run {name!r}: no window has a label for task {task!r}')
    return next(iter(runs.values())).how


def _identity(runs: Mapping[str, FitRun], windows: Windows, seed: int) -> str:
    """Name everything that decides the course of a fit but the tokens themselves."""
    content = {
        'seed': seed,
        'windows': len(windows),
        'targets': {task: int(numbers.sum()) for task, numbers in windows.targets.items()},
        'runs': {
            name: {
                'how': run.how.model_dump(),
                'token_grid': run.average and run.average.token_grid,
                'heads': {
                    task: [head.name, head.options, head.frames, head.width, head.classes]
                    for task, head in run.heads.items()
                },
            }
            for name, run in runs.items()
        },
    }
    return json.dumps(content, sort_keys=True)


def _optimiser(run: FitRun) -> torch.optim.Optimizer:
    parameters = [parameter for head in run.heads.values() for parameter in head.parameters()]
    rate, decay = run.how.learning_rate, run.how.weight_decay
    if run.how.optimiser == 'sgd':
        return torch.optim.SGD(parameters, lr=rate, momentum=MOMENTUM, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)


def fit_temperature(logits_bk: Tensor, targets_b: Tensor, *, samples: int | None = None) -> float:
    """Return the temperature that makes logits most likely (calibration on held-out data).

    Args:
        logits_bk: Of windows.
        targets_b: Their true labels.
        samples: How many independent clips they are of, where these are few. Always right on n of
            them is then worth a probability of (n + 1) / (n + 2), as in Platt's scaling, not one.
    """
    classes = logits_bk.shape[1]
    doubt = 0.0 if samples is None else min(1.0, classes / ((classes - 1) * (samples + 2)))
    candidates = torch.logspace(-1, 1, 201)
    losses = [
        F.cross_entropy(logits_bk / value, targets_b, label_smoothing=doubt).item()
        for value in candidates
    ]
    return round(float(candidates[int(np.argmin(losses))]), 4)

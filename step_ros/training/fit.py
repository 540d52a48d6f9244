# SPDX-License-Identifier: Apache-2.0
"""Fitting heads on cached tokens: many runs on one pass over the tokens.

Each batch of windows is read once and goes through the heads of all runs. The learning rate of a
run warms up linearly and then follows half a cosine down to zero. `fit_temperature` calibrates
fitted heads on held-out windows.
"""

import hashlib
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

MOMENTUM = 0.9

# Share of the optimiser steps in which the learning rate warms up.
WARM_UP = 0.03


class FitError(RuntimeError):
    """A fit cannot start, or its loss is not finite."""


@dataclass(frozen=True, kw_only=True)
class FitRun:
    """Heads that are fitted together, one per task, with their settings.

    Attributes:
        heads: A head for each task; all consume the same tokens of the same number of frames.
        how: Optimiser and schedule.
        average: How patch tokens are averaged before the heads; None leaves them as they are.
    """

    heads: Mapping[str, Head]
    how: HeadOptimisation
    average: TokenAverage | None = None

    def tokens_of(self, x_btnd: Tensor, given: TokenKind) -> Tensor:
        """Return the tokens of windows that the heads consume.

        Heads of fewer frames than a window split it into equal parts and take the middle frame of
        each (the earlier of two), so that the frames stay centred in the window. Heads of a
        coarser token grid get averages of neighbouring patch tokens.

        Args:
            x_btnd: Tokens of windows.
            given: Kind of these tokens.

        Raises:
            ValueError: The windows lack tokens, or the heads' frames do not divide theirs.
        """
        head = next(iter(self.heads.values()))
        frames = x_btnd.shape[1]
        if frames % head.frames:
            raise ValueError(
                f'heads of {head.frames} frames cannot take evenly spread frames of {frames}; '
                f'expected a divisor of {frames}'
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
    tokens: str = '',
    checkpoint: Path | None = None,
    log: 'SummaryWriter | None' = None,
    distributed: Distributed = ALONE,
) -> list[dict[str, float]]:
    """Fit all runs at once, in place, on one window of each clip per epoch.

    All runs see the same windows in the same order: only their settings make a difference.

    Args:
        runs: The runs by name; epochs and batch must be the same in all.
        windows: The training windows.
        seed: Seed of the order of clips and of their windows.
        tokens: Name of the clips and of their tokens, for example the key of a cache. A
            checkpoint of other tokens, or of other labels, is refused.
        checkpoint: Folder of the state after each epoch. A fit that finds one there continues
            from it; on a CPU the result is the same to the bit as without the stop. None keeps
            no state.
        log: Receives losses and learning rates.
        distributed: The processes that share each batch; the heads move to its device.

    Returns:
        Mean loss of each run, epoch by epoch.

    Raises:
        FitError: There is nothing to learn from, runs do not fit together, or a loss is not
            finite.
        CheckpointError: The checkpoint is that of another fit.
    """
    how = _common_settings(runs, windows)
    steps = math.ceil(len(windows) / how.batch)
    heads = nn.ModuleDict({name: nn.ModuleDict(run.heads) for name, run in runs.items()})
    heads.to(distributed.device)
    optimisers = {name: _optimiser(run) for name, run in runs.items()}
    identity = _identity(runs, windows, seed, tokens)
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
        title = f'fit heads, epoch {epoch + 1}/{how.epochs}'
        for chosen in track(order, title, steps, shown=distributed.is_main_process):
            batch = _Batch(windows, chosen, rng, distributed)
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
        if distributed.is_main_process:
            if log is not None:
                _write_log(log, sums, optimisers, epoch=epoch + 1)
            if checkpoint is not None:
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
    distributed.wait()
    return history


def _write_log(
    log: 'SummaryWriter',
    losses: Mapping[str, float],
    optimisers: Mapping[str, Optimizer],
    *,
    epoch: int,
) -> None:
    for name, mean in losses.items():
        log.add_scalar(f'loss/{name}', mean, epoch)
        log.add_scalar(f'learning_rate/{name}', optimisers[name].param_groups[0]['lr'], epoch)


class _Batch:
    """This process's share of a batch.

    Every process chooses all windows of the batch, so that all draw the same random numbers as a
    single process would. Each reads its own share only.
    """

    def __init__(
        self,
        windows: Windows,
        chosen: np.ndarray,
        rng: np.random.Generator,
        distributed: Distributed,
    ) -> None:
        choices = [(int(index), windows.choose(int(index), rng)) for index in chosen]
        own = distributed.part(choices)
        self._x_btnd: Tensor | None = None
        if own:
            x_btnd = torch.stack([windows.read(index, choice) for index, choice in own])
            self._x_btnd = x_btnd.to(distributed.device)
        self._kind, self._distributed = windows.kind, distributed
        self._all = {task: numbers[chosen] for task, numbers in windows.targets.items()}
        self._own = {
            task: numbers[distributed.rank :: distributed.size].to(distributed.device)
            for task, numbers in self._all.items()
        }

    def backward(self, run: FitRun) -> float | None:
        """Add the gradients of the whole batch's loss, and return it.

        Returns:
            The loss; None if no window of the batch has a label for the run.
        """
        if not any(bool((self._all[task] != NO_LABEL).any()) for task in run.heads):
            return None
        loss = self._loss(run)
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]
        if self._distributed.size == 1:
            return None if loss is None else loss.item()
        parameters = [each for head in run.heads.values() for each in head.parameters()]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        device = self._distributed.device
        total = torch.zeros(1, device=device) if loss is None else loss.detach().view(1)
        gradients = [each.grad for each in parameters if each.grad is not None]
        self._distributed.all_reduce([total, *gradients])
        return float(total)

    def _loss(self, run: FitRun) -> Tensor | None:
        """Return this process's part of the sum of the tasks' cross-entropies."""
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
            # The sum over the processes is then the mean over the batch.
            share = int(known.sum()) / int((self._all[task] != NO_LABEL).sum())
            losses.append(mean * share if share < 1 else mean)
        return torch.stack(losses).sum() if losses else None


def _common_settings(runs: Mapping[str, FitRun], windows: Windows) -> HeadOptimisation:
    """Return the settings of the first run, whose epochs and batch all runs share.

    Raises:
        FitError: Runs differ in them, or a run or the windows are unusable.
    """
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
            raise FitError(f'run {name!r}: expected a name of at least one letter and no dot')
        for task in run.heads:
            if task not in windows.targets:
                raise FitError(f'run {name!r}: the windows have no labels for task {task!r}')
            if bool((windows.targets[task] == NO_LABEL).all()):
                raise FitError(f'run {name!r}: no window has a label for task {task!r}')
    return next(iter(runs.values())).how


def _identity(runs: Mapping[str, FitRun], windows: Windows, seed: int, tokens: str) -> str:
    """Return a text of all settings that change the result of a fit."""
    content = {
        'seed': seed,
        **({'tokens': tokens} if tokens else {}),
        'windows': len(windows),
        'labels': {task: _digest(numbers) for task, numbers in windows.targets.items()},
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


def _digest(targets: Tensor) -> str:
    """Return a digest of the clips' labels, clip by clip: exchanged labels are another fit."""
    return hashlib.sha256(json.dumps(targets.tolist()).encode()).hexdigest()[:16]


def _optimiser(run: FitRun) -> Optimizer:
    parameters = [parameter for head in run.heads.values() for parameter in head.parameters()]
    rate, decay = run.how.learning_rate, run.how.weight_decay
    if run.how.optimiser == 'sgd':
        return torch.optim.SGD(parameters, lr=rate, momentum=MOMENTUM, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)


def cosine_schedule(optimiser: Optimizer, steps: int, *, done: int = 0) -> LambdaLR:
    """Return a learning-rate schedule: a short linear warm-up, then half a cosine down to zero.

    Step it once after each optimiser step.

    Args:
        optimiser: Its learning rates are the peaks.
        steps: Optimiser steps in all; the first 3 % warm up.
        done: Optimiser steps taken before this call.
    """
    warm_up = max(1, round(WARM_UP * steps))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        done = (step - warm_up) / max(1, steps - warm_up)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return LambdaLR(optimiser, lambda step: factor(step + done))


def fit_temperature(logits_bk: Tensor, targets_b: Tensor, *, samples: int | None = None) -> float:
    """Return the temperature at which held-out labels are most likely (calibration).

    Args:
        logits_bk: Logits of windows.
        targets_b: Their true labels.
        samples: Number of independent clips, if they are few. A head that is always right on n
            clips is then trusted with probability (n + 1) / (n + 2), as in Platt's scaling, not 1.
    """
    classes = logits_bk.shape[1]
    doubt = 0.0 if samples is None else min(1.0, classes / ((classes - 1) * (samples + 2)))
    candidates = torch.logspace(-1, 1, 201)
    losses = [
        F.cross_entropy(logits_bk / value, targets_b, label_smoothing=doubt).item()
        for value in candidates
    ]
    return round(float(candidates[int(np.argmin(losses))]), 4)

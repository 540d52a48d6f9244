"""Running an ablation: every run of the grid, on as few passes over the tokens as it takes."""

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save_file
from torch import Tensor

from step_ros.datasets.clip import ClipRecord
from step_ros.experiments.spec import AblationSpec, RunSpec
from step_ros.model.backbone import Backbone, TokenAverage, grid_text
from step_ros.model.bundle import create_heads
from step_ros.model.bundle_schema import TaskSpec
from step_ros.model.complexity import count_head, on_meta
from step_ros.model.heads.base import Head
from step_ros.model.heads.registry import consumed_tokens
from step_ros.training.dataset_tokens import Tokens, load_backbone, prepare_tokens
from step_ros.training.distributed import ALONE, Distributed
from step_ros.training.feature_cache.cache import FeatureCache
from step_ros.training.feature_cache.spec import CacheSpec, CacheType, to_bytes
from step_ros.training.fit import FitError, FitRun, fit
from step_ros.training.predict import ClipPredictions, predict_clips, score_predictions
from step_ros.training.windows import CachedWindows

# ---- The heads of an ablation's runs: what they are, what they see of a frame, what they cost.


def average_of(run: RunSpec, backbone: Backbone) -> TokenAverage:
    """Return how a run's heads get their patch tokens from those that the backbone gives.

    Raises:
        ValueError: The run's token grid does not divide the backbone's.
    """
    return TokenAverage(
        given=backbone.token_grid, token_grid=run.token_grid or backbone.token_grid
    )


def check_token_grids(spec: AblationSpec, backbone: Backbone) -> None:
    """Refuse token grids that the backbone's tokens cannot be averaged onto.

    Raises:
        FitError: There is one; names the row and both grids.
    """
    for name, table in spec.tables.items():
        for key, row in table.rows.items():
            try:
                average_of(spec.run(table, row), backbone)
            except ValueError as error:
                raise FitError(f'tables.{name}.rows.{key}.token_grid: {error}') from error


def build_runs(
    specs: Sequence[RunSpec], tasks: Sequence[TaskSpec], backbone: Backbone, *, seed: int
) -> dict[str, FitRun]:
    """Make the heads of runs; each run's start depends on the seed and itself alone.

    Args:
        specs: The runs.
        tasks: All tasks of the data.
        backbone: Says what the tokens are.
        seed: Decides where the heads start.

    Raises:
        FitError: A run asks for a task that the data does not have.
    """
    runs = {}
    for spec in specs:
        torch.manual_seed(seed)
        runs[spec.key] = FitRun(
            heads=_heads(spec, tasks, backbone),
            how=spec.head,
            average=average_of(spec, backbone),
        )
    return runs


def count_run(run: RunSpec, tasks: Sequence[TaskSpec], backbone: Backbone) -> float:
    """Return the multiply-adds of a run's heads on one window, in units of 1e9."""
    patches = average_of(run, backbone).tokens
    heads: dict[str, Head] = on_meta(_heads, run, tasks, backbone)
    return sum(count_head(head, patches=patches).full for head in heads.values())


def _heads(run: RunSpec, tasks: Sequence[TaskSpec], backbone: Backbone) -> dict[str, Head]:
    known = {task.name: task for task in tasks}
    for name in run.tasks:
        if name not in known:
            raise FitError(f'{name!r} is no task of the data; there are {", ".join(known)}')
    return create_heads(
        run.head,
        [known[name] for name in run.tasks],
        width=backbone.width,
        frames=run.frames,
        tokens=average_of(run, backbone).tokens,
    )


# ---- A cache read as if its tokens had been kept in fewer bits: what would that cost?


class QuantisedCacheView(FeatureCache):
    """A finished cache of another type than it is.

    Args:
        folder: Its folder.
        spec: What is expected in it.
        dtype: How tokens are rounded on reading.
    """

    def __init__(self, folder: Path, spec: CacheSpec, *, dtype: CacheType) -> None:
        super().__init__(folder, spec)
        self._dtype = dtype

    def read(self, clip_id: str, view: int) -> Tensor:
        """Return the tokens of one view of a clip, rounded, float32, `[t, n, d]`."""
        values, scales = to_bytes(super().read(clip_id, view).numpy(), self._dtype)
        x_tnd = torch.from_numpy(values).float()
        return x_tnd if scales is None else x_tnd * torch.from_numpy(scales)[..., None]


RESULT, HEADS, SCORES = 'result.json', 'heads.safetensors', 'scores.npz'


class RunResult(BaseModel):
    """What came of a run.

    Attributes:
        spec: What decided it.
        parameters: Trained numbers, heads of all its tasks together.
        training_clips: Clips it learned from.
        loss: Mean loss of each epoch.
        metrics: View (`all`, `trained`, `unseen`) to order to task to `task_metrics`.
        folder: Where it is kept: `heads.safetensors` (`TASK/TENSOR`), and `scores.npz`: `clips`
            (names of the test clips), `scores/TASK` `[c, k]` and `features/TASK` `[c, d]`.
    """

    model_config = ConfigDict(frozen=True)

    spec: RunSpec
    parameters: int
    training_clips: int
    loss: list[float]
    metrics: dict[str, dict[str, dict[str, dict[str, Any]]]]
    folder: Path = Field(default=Path(), exclude=True)


class AblationResult(BaseModel):
    """What came of an ablation.

    Attributes:
        spec: The file.
        dataset: Title of the dataset.
        backbone: Name and digest of the frozen encoder.
        frame_period: Seconds between two frames of a window.
        clips: Clips of each split.
        left_out: Clips that could not be used.
        runs: By their keys.
        gflops: Multiply-adds of each run's heads on one window, in units of 1e9, by its key.
    """

    model_config = ConfigDict(frozen=True)

    spec: AblationSpec
    dataset: str
    backbone: str
    frame_period: float
    clips: dict[str, int]
    left_out: int
    runs: dict[str, RunResult]
    gflops: dict[str, float]

    def run(self, table: str, row: str) -> RunResult:
        """Return the run of a row."""
        spec = self.spec.tables[table]
        return self.runs[self.spec.run(spec, spec.rows[row]).key]


def ablate(
    spec: AblationSpec, output: Path, *, distributed: Distributed = ALONE
) -> AblationResult:
    """Run what has not been run yet.

    Args:
        spec: What to run.
        output: Folder for what came of each run, and for the state of those under way; an ablation
            that was stopped goes on from there.
        distributed: The processes that share the work.

    Raises:
        DatasetError: The dataset cannot be read.
        FitError: There is nothing to learn from, or too many clips are unusable.
    """
    wanted = {
        run.key: run
        for table in spec.tables.values()
        for run in (spec.run(table, row) for row in table.rows.values())
    }
    backbone, _ = load_backbone(spec.recipe)
    check_token_grids(spec, backbone)
    kinds = {consumed_tokens(run.head.name, **run.head.options) for run in wanted.values()}
    backbone.give(kinds.pop() if len(kinds) == 1 else 'all')
    tokens = prepare_tokens(spec.recipe, backbone, distributed=distributed)
    passes = defaultdict[tuple[object, ...], list[RunSpec]](list)
    for run in wanted.values():
        passes[run.data].append(run)
    results: dict[str, RunResult] = {}
    for runs in passes.values():
        results |= _pass(spec, runs, tokens, backbone, output, distributed)
    return AblationResult(
        spec=spec,
        dataset=tokens.dataset.config.title,
        backbone=_title(backbone),
        frame_period=tokens.frame_period,
        clips={split: len(tokens.records(split)) for split in ('train', 'val', 'test')},
        left_out=len(tokens.train.failures)
        + (len(tokens.held_out.failures) if tokens.held_out else 0),
        runs=results,
        gflops={key: count_run(run, tokens.tasks, backbone) for key, run in wanted.items()},
    )


def _title(backbone: Backbone) -> str:
    title = f'{backbone.name}, {backbone.digest[:19]}'
    if backbone.coarser_grid is None:
        return title
    return f'{title}, tokens averaged onto {grid_text(backbone.coarser_grid)}'


def _pass(
    spec: AblationSpec,
    specs: list[RunSpec],
    tokens: Tokens,
    backbone: Backbone,
    output: Path,
    distributed: Distributed,
) -> dict[str, RunResult]:
    """Fit and score runs that learn from the same windows, unless they were before."""
    if tokens.held_out is None:
        raise FitError('there are no test clips; an ablation needs some')
    data = _digest(
        [
            tokens.train.spec.key,
            tokens.held_out.spec.key,
            *(task.model_dump_json() for task in tokens.tasks),
            *(f'{r.clip_id} {sorted(r.labels.items())}' for r in tokens.dataset.records),
        ]
    )
    folders = {run.key: run_folder(output, run, data) for run in specs}
    missing = [run for run in specs if not (folders[run.key] / RESULT).is_file()]
    if missing:
        _fit_pass(spec, missing, tokens, backbone, output, folders, distributed)
        distributed.wait()
    return {run.key: read_result(folders[run.key]) for run in specs}


def _fit_pass(
    spec: AblationSpec,
    specs: list[RunSpec],
    tokens: Tokens,
    backbone: Backbone,
    output: Path,
    folders: Mapping[str, Path],
    distributed: Distributed,
) -> None:
    tokens = _as_kept(tokens, specs[0].tokens)
    assert tokens.held_out is not None
    training = chosen_clips(
        tokens.records('train'), share=specs[0].share, views=specs[0].views, seed=spec.recipe.seed
    )
    windows = CachedWindows(tokens.train, training, tokens.labels)
    runs = build_runs(specs, tokens.tasks, backbone, seed=spec.recipe.seed)
    checkpoint = output / 'checkpoints' / _digest([folders[run.key].name for run in specs])
    history = fit(
        runs, windows, seed=spec.recipe.seed, checkpoint=checkpoint, distributed=distributed
    )
    answers = predict_clips(
        runs, tokens.held_out, tokens.records('test'), features=True, distributed=distributed
    )
    if not distributed.is_main_process:
        return
    for run in specs:
        result = RunResult(
            spec=run,
            parameters=sum(
                parameter.numel()
                for head in runs[run.key].heads.values()
                for parameter in head.parameters()
            ),
            training_clips=len(windows),
            loss=[round(epoch[run.key], 4) for epoch in history],
            metrics=_by_view(run, answers[run.key], tokens),
        )
        _save(folders[run.key], runs[run.key], answers[run.key], result)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _as_kept(tokens: Tokens, dtype: CacheType | None) -> Tokens:
    if dtype is None:
        return tokens

    def kept(cache: FeatureCache) -> FeatureCache:
        return QuantisedCacheView(cache.folder, cache.spec, dtype=dtype)

    held_out = tokens.held_out
    return replace(
        tokens, train=kept(tokens.train), held_out=None if held_out is None else kept(held_out)
    )


def run_folder(output: Path, run: RunSpec, data: str) -> Path:
    """Return where a run on some tokens is kept."""
    return output / 'runs' / f'{run.key}-{data}'


def read_result(folder: Path) -> RunResult:
    """Read what came of a run."""
    text = (folder / RESULT).read_text(encoding='utf-8')
    return RunResult.model_validate_json(text).model_copy(update={'folder': folder})


def chosen_clips(
    records: Sequence[ClipRecord], *, share: float, views: Sequence[str], seed: int
) -> list[ClipRecord]:
    """Return a share of the clips of each label, at least one, seen from some views.

    Args:
        records: All clips.
        share: How much of them, `(0, 1]`; a smaller share is part of a larger one.
        views: None for all.
        seed: Decides which.

    Raises:
        FitError: No clip is seen from these views.
    """
    seen = [record for record in records if not views or record.view in views]
    if not seen:
        there = ', '.join(sorted({record.view for record in records}))
        raise FitError(f'no training clip is seen from {", ".join(views)}; there are {there}')
    rng = np.random.default_rng(seed)
    groups = defaultdict[tuple[str, ...], list[ClipRecord]](list)
    for place in rng.permutation(len(seen)):
        groups[tuple(seen[place].labels.values())].append(seen[place])
    return [
        record
        for group in groups.values()
        for record in group[: max(1, round(share * len(group)))]
    ]


def _by_view(
    run: RunSpec, answers: ClipPredictions, tokens: Tokens
) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    training = tokens.records('train')
    metrics = {'all': score_predictions(answers, tokens.tasks, training=training)}
    if run.views:
        for name, clips in (
            ('trained', lambda record: record.view in run.views),
            ('unseen', lambda record: record.view not in run.views),
        ):
            metrics[name] = score_predictions(answers, tokens.tasks, training=training, of=clips)
    return metrics


def _save(folder: Path, run: FitRun, answers: ClipPredictions, result: RunResult) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f'{task}/{name}': value.contiguous().cpu()
        for task, head in run.heads.items()
        for name, value in head.state_dict().items()
    }
    save_file(tensors, folder / HEADS)
    arrays: dict[str, Any] = {
        f'{kind}/{task}': values
        for kind, by_task in (
            ('scores', answers.scores['correct']),
            ('features', answers.features),
        )
        for task, values in by_task.items()
    }
    np.savez(
        folder / SCORES, clips=np.array([record.clip_id for record in answers.records]), **arrays
    )
    partial = folder / f'{RESULT}.partial'
    partial.write_text(result.model_dump_json(indent=1), encoding='utf-8')
    partial.replace(folder / RESULT)


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256('\n'.join(sorted(parts)).encode()).hexdigest()[:12]

# SPDX-License-Identifier: Apache-2.0
"""Running an ablation: every run of the grid, in as few passes over the tokens as possible.

`ablate` groups the runs that see the same windows and fits each group in one pass. Each run has a
folder with its heads, its scores and its result. The result is written last, so that a folder
with a result is complete and later ablations reuse it.
"""

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
from step_ros.files import replace_file
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

# Files in the folder of a run; the result is written last.
RESULT, HEADS, SCORES = 'result.json', 'heads.safetensors', 'scores.npz'


class RunResult(BaseModel):
    """Result of a run.

    Attributes:
        spec: The run.
        parameters: Number of trained parameters, heads of all tasks together.
        training_clips: Number of clips that it was trained on.
        loss: Mean loss of each epoch.
        metrics: Content of `task_metrics` by view (`all`, `trained`, `unseen`), order of the
            frames, and task.
        folder: Folder with `heads.safetensors` (`TASK/TENSOR`) and `scores.npz`, which has
            `clips` (names of the test clips), `scores/TASK` `[c, k]` and `features/TASK` `[c, d]`.
    """

    model_config = ConfigDict(frozen=True)

    spec: RunSpec
    parameters: int
    training_clips: int
    loss: list[float]
    metrics: dict[str, dict[str, dict[str, dict[str, Any]]]]
    folder: Path = Field(default=Path(), exclude=True)


class AblationResult(BaseModel):
    """Results of an ablation.

    Attributes:
        spec: Content of the ablation file.
        dataset: Title of the dataset.
        backbone: Name and digest of the frozen encoder.
        frame_period: Seconds between two frames of a window.
        clips: Number of clips of each split.
        left_out: Number of clips that could not be used.
        runs: Results by key of the run.
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
        """Return the result of a row."""
        spec = self.spec.tables[table]
        return self.runs[self.spec.run(spec, spec.rows[row]).key]


def ablate(
    spec: AblationSpec, output: Path, *, distributed: Distributed = ALONE
) -> AblationResult:
    """Run all runs that have no result yet, and return the results of all.

    Args:
        spec: The ablation.
        output: Folder for the results, and for checkpoints from which a stopped ablation
            continues.
        distributed: The processes that share the work.

    Raises:
        DatasetError: The dataset cannot be read.
        FitError: There are no training clips, or too many clips are unusable.
    """
    wanted = {
        run.key: run
        for table in spec.tables.values()
        for run in (spec.run(table, row) for row in table.rows.values())
    }
    backbone, _ = load_backbone(spec.recipe)
    check_token_grids(spec, backbone)
    # If all heads take the same kind of tokens, the cache keeps that kind alone.
    kinds = {consumed_tokens(run.head.name, **run.head.options) for run in wanted.values()}
    backbone.give(kinds.pop() if len(kinds) == 1 else 'all')
    tokens = prepare_tokens(spec.recipe, backbone, distributed=distributed)
    passes = defaultdict[tuple[object, ...], list[RunSpec]](list)
    for run in wanted.values():
        passes[run.data].append(run)
    results: dict[str, RunResult] = {}
    for runs in passes.values():
        results |= _run_pass(spec, runs, tokens, backbone, output, distributed)
    return AblationResult(
        spec=spec,
        dataset=tokens.dataset.config.title,
        backbone=_backbone_title(backbone),
        frame_period=tokens.frame_period,
        clips={split: len(tokens.records(split)) for split in ('train', 'val', 'test')},
        left_out=len(tokens.train.failures)
        + (len(tokens.held_out.failures) if tokens.held_out else 0),
        runs=results,
        gflops={key: count_run(run, tokens.tasks, backbone) for key, run in wanted.items()},
    )


def chosen_clips(
    records: Sequence[ClipRecord], *, share: float, views: Sequence[str], seed: int
) -> list[ClipRecord]:
    """Return a share of the clips of each label, at least one clip, from some views.

    Args:
        records: All clips.
        share: Share of the clips in (0, 1]; a smaller share is part of a larger one.
        views: Views of the clips; empty for all.
        seed: Seed of the choice.

    Raises:
        FitError: No clip is from these views.
    """
    seen = [record for record in records if not views or record.view in views]
    if not seen:
        known = ', '.join(sorted({record.view for record in records}))
        raise FitError(
            f'no training clip is from the view {", ".join(views)}; choose among {known}'
        )
    rng = np.random.default_rng(seed)
    groups = defaultdict[tuple[str, ...], list[ClipRecord]](list)
    for place in rng.permutation(len(seen)):
        groups[tuple(seen[place].labels.values())].append(seen[place])
    return [
        record
        for group in groups.values()
        for record in group[: max(1, round(share * len(group)))]
    ]


def run_folder(output: Path, run: RunSpec, data: str) -> Path:
    """Return the folder of a run on some tokens.

    Args:
        output: Folder of the ablation.
        run: The run.
        data: Digest of the tokens and labels.
    """
    return output / 'runs' / f'{run.key}-{data}'


def read_result(folder: Path) -> RunResult:
    """Read the result from a run's folder."""
    text = (folder / RESULT).read_text(encoding='utf-8')
    return RunResult.model_validate_json(text).model_copy(update={'folder': folder})


def check_token_grids(spec: AblationSpec, backbone: Backbone) -> None:
    """Check that the backbone's tokens can be averaged onto the token grid of every row.

    Raises:
        FitError: A row's token grid does not divide the backbone's; names the row and both grids.
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
    """Return the heads of runs; a run's initial weights depend on the seed and the run alone.

    Args:
        specs: The runs.
        tasks: All tasks of the data.
        backbone: The backbone that gives the tokens.
        seed: Seed of the initial weights.

    Raises:
        FitError: A run names a task that the data does not have.
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


def average_of(run: RunSpec, backbone: Backbone) -> TokenAverage:
    """Return how the backbone's patch tokens are averaged for a run's heads.

    Raises:
        ValueError: The run's token grid does not divide the backbone's token grid.
    """
    return TokenAverage(
        given=backbone.token_grid, token_grid=run.token_grid or backbone.token_grid
    )


class QuantisedCacheView(FeatureCache):
    """A finished cache, read as if it had kept its tokens in fewer bits.

    Args:
        folder: Folder of the cache.
        spec: Expected content of the cache.
        dtype: Type to which tokens are rounded on reading.
    """

    def __init__(self, folder: Path, spec: CacheSpec, *, dtype: CacheType) -> None:
        super().__init__(folder, spec)
        self._dtype = dtype

    def read(self, clip_id: str, view: int) -> Tensor:
        """Return the rounded tokens of one view of a clip, float32, `[t, n, d]`."""
        values, scales = to_bytes(super().read(clip_id, view).numpy(), self._dtype)
        x_tnd = torch.from_numpy(values).float()
        return x_tnd if scales is None else x_tnd * torch.from_numpy(scales)[..., None]


def _heads(run: RunSpec, tasks: Sequence[TaskSpec], backbone: Backbone) -> dict[str, Head]:
    known = {task.name: task for task in tasks}
    for name in run.tasks:
        if name not in known:
            raise FitError(f'{name!r} is no task of the data; choose among {", ".join(known)}')
    return create_heads(
        run.head,
        [known[name] for name in run.tasks],
        width=backbone.width,
        frames=run.frames,
        tokens=average_of(run, backbone).tokens,
    )


def _run_pass(
    spec: AblationSpec,
    specs: list[RunSpec],
    tokens: Tokens,
    backbone: Backbone,
    output: Path,
    distributed: Distributed,
) -> dict[str, RunResult]:
    """Return the results of runs that share training windows; fit the runs that have none."""
    if tokens.held_out is None:
        raise FitError('there are no test clips; an ablation scores its heads on some')
    data = _digest(
        [
            tokens.train.spec.key,
            tokens.held_out.spec.key,
            *(task.model_dump_json() for task in tokens.tasks),
            *(
                f'{r.clip_id} {r.split} {r.view} {sorted(r.labels.items())}'
                for r in tokens.dataset.records
            ),
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
    """Fit runs in one pass over their training windows, score them, and save their results."""
    tokens = _quantised(tokens, specs[0].tokens)
    assert tokens.held_out is not None
    training = chosen_clips(
        tokens.records('train'), share=specs[0].share, views=specs[0].views, seed=spec.recipe.seed
    )
    windows = CachedWindows(tokens.train, training, tokens.labels)
    runs = build_runs(specs, tokens.tasks, backbone, seed=spec.recipe.seed)
    # The names of the folders hold digests of the runs, their tokens and their labels.
    identity = _digest([folders[run.key].name for run in specs])
    checkpoint = output / 'checkpoints' / identity
    history = fit(
        runs,
        windows,
        seed=spec.recipe.seed,
        tokens=identity,
        checkpoint=checkpoint,
        distributed=distributed,
    )
    predictions = predict_clips(
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
            metrics=_metrics_by_view(run, predictions[run.key], tokens),
        )
        _save_run(folders[run.key], runs[run.key], predictions[run.key], result)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _quantised(tokens: Tokens, dtype: CacheType | None) -> Tokens:
    """Return the tokens as if their caches had another type; None leaves them as they are."""
    if dtype is None:
        return tokens

    def quantise(cache: FeatureCache) -> FeatureCache:
        return QuantisedCacheView(cache.folder, cache.spec, dtype=dtype)

    held_out = tokens.held_out
    return replace(
        tokens,
        train=quantise(tokens.train),
        held_out=None if held_out is None else quantise(held_out),
    )


def _metrics_by_view(
    run: RunSpec, predictions: ClipPredictions, tokens: Tokens
) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    training = tokens.records('train')
    metrics = {'all': score_predictions(predictions, tokens.tasks, training=training)}
    if run.views:
        for name, clips in (
            ('trained', lambda record: record.view in run.views),
            ('unseen', lambda record: record.view not in run.views),
        ):
            metrics[name] = score_predictions(
                predictions, tokens.tasks, training=training, of=clips
            )
    return metrics


def _save_run(folder: Path, run: FitRun, predictions: ClipPredictions, result: RunResult) -> None:
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
            ('scores', predictions.scores['correct']),
            ('features', predictions.features),
        )
        for task, values in by_task.items()
    }
    np.savez(
        folder / SCORES,
        clips=np.array([record.clip_id for record in predictions.records]),
        **arrays,
    )
    # The result comes last: a folder that has one is complete.
    with replace_file(folder / RESULT) as partial:
        partial.write_text(result.model_dump_json(indent=1), encoding='utf-8')


def _backbone_title(backbone: Backbone) -> str:
    title = f'{backbone.name}, {backbone.digest[:19]}'
    if backbone.coarser_grid is None:
        return title
    return f'{title}, tokens averaged onto {grid_text(backbone.coarser_grid)}'


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256('\n'.join(sorted(parts)).encode()).hexdigest()[:12]

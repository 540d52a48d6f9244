# SPDX-License-Identifier: Apache-2.0
"""From a recipe to cached tokens: read the dataset, load the encoder, encode the clips.

The tabletop's clips are rendered, and its encoder is pre-trained, if they are missing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.identity import clips_digest
from step_ros.datasets.registry import Dataset, read_dataset
from step_ros.encoders.base import Encoder, TorchEncoder
from step_ros.model.backbone import Backbone, create_backbone
from step_ros.model.bundle import load_bundle
from step_ros.model.bundle_schema import TaskSpec
from step_ros.reporting.progress import track
from step_ros.resources import find_bundle
from step_ros.streaming.grid import NANOSECONDS
from step_ros.training.config import CacheRecipe, Recipe, RenderingRecipe
from step_ros.training.distributed import ALONE, Distributed
from step_ros.training.feature_cache.cache import FeatureCache, estimate, extract
from step_ros.training.feature_cache.spec import CacheEstimate, CacheSpec, check_room, spec_for
from step_ros.training.fit import FitError
from step_ros.training.frame_rates import common_frame_period
from step_ros.training.lock import file_lock
from step_ros.training.sampler import Sampler, sided_clips


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Cached tokens of a dataset, and its labels.

    Attributes:
        dataset: The clips.
        tasks: The tasks to learn.
        frame_period: Seconds between two frames of a window.
        train: Tokens of the training views.
        held_out: Tokens of the windows of all validation and test clips; None without such clips.
    """

    dataset: Dataset
    tasks: tuple[TaskSpec, ...]
    frame_period: float
    train: FeatureCache
    held_out: FeatureCache | None

    def records(self, split: str) -> list[ClipRecord]:
        """Return the clips of a split."""
        return [record for record in self.dataset.records if record.split == split]

    def encoded_records(self, split: str) -> list[ClipRecord]:
        """Return the clips of a held-out split that could be encoded."""
        if self.held_out is None:
            return []
        return [record for record in self.records(split) if record.clip_id in self.held_out]

    @property
    def labels(self) -> dict[str, Sequence[str]]:
        """Labels of each task, in order."""
        return {task.name: task.labels for task in self.tasks}


def load_backbone(recipe: Recipe) -> tuple[Backbone, dict[str, Any]]:
    """Return the encoder of a recipe, and the constructor arguments it was made with.

    An encoder with pre-training is pre-trained now, unless an earlier call has done it.

    Raises:
        BundleError: The bundle cannot be loaded.
        ValueError: timm does not know the architecture, or the token grid does not fit.
        WeightsError: The weights are missing or do not fit.
    """
    wanted = recipe.backbone
    arguments = wanted.arguments
    if wanted.bundle is not None:
        bundle = load_bundle(find_bundle(wanted.bundle))
        backbone, arguments = bundle.model.backbone, bundle.spec.backbone.arguments
    elif wanted.pretraining is not None:
        # Imported here: only the tabletop's own encoder needs the simulator.
        from step_ros.training.pretrain import pretrained_backbone

        backbone = pretrained_backbone(wanted, recipe.cache.folder, seed=recipe.seed)
    else:
        assert wanted.name is not None
        backbone = create_backbone(
            wanted.name,
            weights=wanted.weights,
            image_size=(wanted.image_height, wanted.image_width),
            arguments=arguments,
        )
    if wanted.token_grid is not None:
        backbone.average_onto(wanted.token_grid)
    return backbone, arguments


def prepare_tokens(
    recipe: Recipe, backbone: Backbone, *, distributed: Distributed = ALONE
) -> Tokens:
    """Read the dataset and encode the clips that are not cached yet.

    Raises:
        DatasetError: The dataset cannot be read.
        FitError: There are no training clips, or too many clips are unusable.
        CacheError: The disk has no room for the tokens.
    """
    data, sampling = recipe.data, recipe.sampling
    if data.rendering is not None:
        render_missing(data.rendering, data.root)
    dataset = read_dataset(data.dataset, data.root, **data.options)
    records = {
        split: [record for record in dataset.records if record.split == split]
        for split in ('train', 'val', 'test')
    }
    if not records['train']:
        raise FitError(
            f'{data.root}: no training clips; {len(dataset.problems)} problems were found'
        )
    frame_period = common_frame_period(dataset.records, recipe)
    encoder = TorchEncoder(backbone, device=distributed.device)
    name = f'{data.dataset} {json.dumps(data.options, sort_keys=True)}'

    def sampler(views: int, **options: Any) -> Sampler:
        return Sampler(
            frames=sampling.frames,
            frame_period_ns=round(frame_period * NANOSECONDS),
            size=backbone.image_size,
            views=views,
            kind=sampling.kind,
            **options,
        )

    training = sampler(
        sampling.train_views,
        augmentation=recipe.augmentation,
        seed=recipe.seed,
        sided=sided_clips(dataset.config, records['train']),
    )
    testing = sampler(sampling.test_views, crops=sampling.test_crops)
    planned = [
        (part, how)
        for part, how in (
            (records['train'], training),
            (records['val'] + records['test'], testing),
        )
        if part
    ]
    # Both caches together must fit, before the first is begun.
    check_room(
        [estimate_tokens(part, how, backbone, recipe.cache, dataset=name) for part, how in planned]
    )
    caches = [
        cached_tokens(part, how, backbone, encoder, recipe.cache, dataset=name)
        for part, how in planned
    ]
    _check_left_out(recipe, dataset, caches)
    return Tokens(
        dataset=dataset,
        tasks=_tasks(recipe, dataset),
        frame_period=frame_period,
        train=caches[0],
        held_out=caches[1] if len(caches) > 1 else None,
    )


def render_missing(rendering: RenderingRecipe, root: Path) -> None:
    """Render the clips of the tabletop that are missing; other processes wait meanwhile.

    Raises:
        DatasetError: The folder holds something else, or clips rendered in another way.
    """
    # Imported here: other datasets need no simulator.
    from step_ros.tabletop.dataset import Rendering, render_dataset

    with file_lock(root.with_name(f'{root.name}.lock')):
        render_dataset(
            root,
            Rendering(
                clips={str(split): count for split, count in rendering.clips.items()},
                views=rendering.views,
                size=(rendering.width, rendering.height),
                rate=rendering.rate,
                seed=rendering.seed,
            ),
            progress=lambda paths, total: track(paths, 'render clips', total),
        )


def _tasks(recipe: Recipe, dataset: Dataset) -> tuple[TaskSpec, ...]:
    known = {task.name: task for task in dataset.config.tasks}
    for name in (*recipe.data.tasks, *recipe.data.counterparts):
        if name not in known:
            raise FitError(
                f'data.tasks: the dataset has no task {name!r}; it has {", ".join(known)}'
            )
    return tuple(
        TaskSpec(
            name=name,
            labels=known[name].labels,
            counterparts={**known[name].counterparts, **recipe.data.counterparts.get(name, {})},
        )
        for name in recipe.data.tasks or known
    )


def _check_left_out(recipe: Recipe, dataset: Dataset, caches: Sequence[FeatureCache]) -> None:
    failures = [failure for cache in caches for failure in cache.failures]
    wrong = len(dataset.problems) + len(failures)
    everything = len(dataset.records) + len(dataset.problems)
    if wrong > recipe.data.most_left_out * everything:
        examples = [str(problem) for problem in dataset.problems[:3]]
        examples += [f'{failure.clip_id}: {failure.why}' for failure in failures[:3]]
        raise FitError(
            f'{wrong} of {everything} clips cannot be used, more than data.most_left_out='
            f'{recipe.data.most_left_out:g} allows; for example\n  ' + '\n  '.join(examples)
        )


def cached_tokens(
    records: Sequence[ClipRecord],
    sampler: Sampler,
    backbone: Backbone,
    encoder: Encoder,
    cache: CacheRecipe,
    *,
    dataset: str,
) -> FeatureCache:
    """Encode the views of clips, unless they are cached already.

    Videos and bags are known by their content: a file that was replaced is encoded again.

    Args:
        records: The clips.
        sampler: Loads the images of a view.
        backbone: Which tokens are cached.
        encoder: Runs the backbone.
        cache: Folder and format of the tokens.
        dataset: Name of the dataset and of its options.

    Raises:
        CacheError: As in `extract`.
    """
    spec = _cache_spec(records, sampler, backbone, cache, dataset)
    if (encoder.runtime, encoder.precision) != ('torch', 'float32'):
        # Another runtime rounds differently: its tokens need a cache of their own.
        runs = ' '.join(filter(None, [encoder.runtime, encoder.precision, encoder.variant]))
        spec = spec.model_copy(update={'digest': f'{spec.digest} {runs}'})
    folder = extract(
        cache.folder,
        spec,
        records,
        sampler,
        partial(_encode, encoder),
        workers=cache.workers,
    )
    return FeatureCache(folder, spec)


def estimate_tokens(
    records: Sequence[ClipRecord],
    sampler: Sampler,
    backbone: Backbone,
    cache: CacheRecipe,
    *,
    dataset: str,
) -> CacheEstimate:
    """Return the disk space that `cached_tokens` will need; arguments as there."""
    spec = _cache_spec(records, sampler, backbone, cache, dataset)
    return estimate(cache.folder, spec, records)


def _cache_spec(
    records: Sequence[ClipRecord],
    sampler: Sampler,
    backbone: Backbone,
    cache: CacheRecipe,
    dataset: str,
) -> CacheSpec:
    sampling, transform = sampler.for_cache()
    return spec_for(
        backbone,
        dataset=dataset,
        sampling=sampling,
        transform=transform,
        frames=sampler.frames,
        views=sampler.views,
        dtype=cache.dtype,
        sources=clips_digest(records),
    )


def _encode(encoder: Encoder, images_thw3: np.ndarray) -> Tensor:
    return encoder.encode(list(images_thw3))

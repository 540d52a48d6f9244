# SPDX-License-Identifier: Apache-2.0
"""The work of `step_ros teach`: add a task to a bundle from a few examples.

The encoder and the body of a trained head stay as they are. Only a new last layer is fitted to
their features of the examples, which takes seconds after encoding. The heads of the other tasks
are copied, not trained, so their scores stay bit-identical.
"""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from step_ros.encoders.base import TorchEncoder
from step_ros.fewshot.examples import Examples, FewShotError, encode_examples, targets_of
from step_ros.fewshot.features import WindowFeatures
from step_ros.fewshot.task import FewShotTask, example_metrics, layer_of, learn_task, source_heads
from step_ros.files import replace_folder
from step_ros.model.backbone import HUB, RANDOM
from step_ros.model.bundle import BACKBONE_FILE, Bundle, load_bundle, save_bundle
from step_ros.model.bundle_schema import TaskSpec
from step_ros.model.heads.base import Head
from step_ros.model.multitask import MultiTaskModel


def teach(
    bundle: Bundle,
    examples: Examples,
    output: Path,
    *,
    pairs: Mapping[str, str] | None = None,
    reverse_pairs: bool = False,
    name: str = '',
    seed: int = 0,
) -> Bundle:
    """Add a task to a bundle, or labels to one of its tasks, and write the new bundle.

    An existing task keeps the body of its head. It needs examples of its old labels as well:
    without them, the new labels would take over.

    Args:
        bundle: The bundle to start from; it is not changed.
        examples: Examples of the task. Those of the split `train` fit the last layer, those of
            `val` fit the temperature, and those of `test` score the head.
        output: Folder of the new bundle; must not exist.
        pairs: Nearly symmetric labels; naming a pair in one direction is enough.
        reverse_pairs: Whether a reversed example also counts as an example of the counterpart.
        name: Name of the new bundle; empty for the old name followed by the task's name.
        seed: Seed of the folds of the cross-validation.

    Returns:
        The new bundle, loaded from `output`.

    Raises:
        FewShotError: The examples do not suffice, a pair is wrong, or the output exists.
    """
    started = time.monotonic()
    if output.exists():
        raise FewShotError(f'{output} exists; a bundle is not written over: choose another folder')
    old = next((task for task in bundle.spec.tasks if task.name == examples.task), None)
    labels = _labels(examples, old)
    counterparts = _counterparts(examples, old, labels, pairs or {})
    if reverse_pairs and not counterparts:
        raise FewShotError(
            f'task {examples.task!r} has no nearly symmetric labels to reverse; name them: '
            "--pair 'A=B'"
        )
    # An invalid name is refused here, before the long encoding.
    spec = TaskSpec(name=examples.task, labels=labels, counterparts=counterparts)
    heads = {task: head for task, head in bundle.model.heads.items() if isinstance(head, Head)}
    sources = (
        source_heads(heads, bundle.spec.tasks) if old is None else {old.name: heads[old.name]}
    )
    folder = output.with_name(output.name + '.features')
    features = encode_examples(
        examples,
        bundle,
        TorchEncoder(bundle.model.backbone, device=torch.device('cpu')),
        sources,
        folder=folder,
        backward=reverse_pairs,
    )
    parts = {
        split: (features.of(indices), targets_of(examples, indices, labels))
        for split in ('train', 'val', 'test')
        if (indices := examples.of(split))
    }
    learned = learn_task(
        sources,
        *parts['train'],
        labels=labels,
        counterparts=counterparts,
        reverse_pairs=reverse_pairs,
        prior=None if old is None else layer_of(heads[old.name]),
        validation=parts.get('val'),
        seed=seed,
    )
    metrics = _metrics(learned, examples, parts, labels, counterparts)
    spec = spec.model_copy(update={'temperature': learned.temperature})
    provenance = {
        'task': examples.task,
        'bundle': bundle.model_id,
        'body_of': learned.source,
        'decay': learned.decay,
        'reverse_pairs': reverse_pairs,
        'seed': seed,
        'seconds': round(time.monotonic() - started, 1),
        'cores': os.cpu_count(),
        'torch': torch.__version__,
    }
    heads = {**heads, spec.name: learned.head}
    written = _write(bundle, heads, spec, output, name=name, about=(metrics, provenance))
    shutil.rmtree(folder)
    return written


def _labels(examples: Examples, old: TaskSpec | None) -> tuple[str, ...]:
    """Return all labels of the task, the old ones first; each must have a training example."""
    known = old.labels if old is not None else ()
    labels = (*known, *(label for label in examples.labels if label not in known))
    if len(labels) < 2:
        raise FewShotError(
            f'task {examples.task!r}: {labels[0]!r} is its only label; record another one, for '
            "example 'other'"
        )
    counts = examples.counts('train')
    lacking = [label for label in labels if not counts.get(label)]
    if lacking:
        why = (
            f'; the bundle already has the task {examples.task!r}, and its old labels would be '
            'forgotten without examples: record some, or give the new task another name'
            if old is not None and set(lacking) & set(known)
            else '; record some with the split train'
        )
        raise FewShotError(
            f'task {examples.task!r}: labels without a training example: {", ".join(lacking)}{why}'
        )
    return labels


def _counterparts(
    examples: Examples, old: TaskSpec | None, labels: Sequence[str], pairs: Mapping[str, str]
) -> dict[str, str]:
    """Return the nearly symmetric partner of each label that has one, both ways."""
    found = dict(old.counterparts) if old is not None else {}
    found.update(examples.counterparts)
    for one, other in pairs.items():
        for label in (one, other):
            if label not in labels:
                raise FewShotError(
                    f'pair {one!r}={other!r}: {label!r} is no label of task {examples.task!r}; '
                    f'there are {", ".join(labels)}'
                )
        for label, partner in ((one, other), (other, one)):
            if one == other or found.get(label, partner) != partner:
                raise FewShotError(
                    f'pair {one!r}={other!r}: {label!r} is paired with '
                    f'{found.get(label, label)!r}; a label has one counterpart'
                )
            found[label] = partner
    return found


def _metrics(
    learned: FewShotTask,
    examples: Examples,
    parts: Mapping[str, tuple[WindowFeatures, Mapping[int, int]]],
    labels: Sequence[str],
    counterparts: Mapping[str, str],
) -> dict[str, Any]:
    layer = layer_of(learned.head)
    found: dict[str, Any] = {
        'examples': examples.counts('train'),
        'windows': len(parts['train'][0].example_w),
        'temperature_fitted_on': learned.calibrated_on,
        'cross_validation': learned.cross_validation,
    }
    for split in ('val', 'test'):
        if split in parts:
            features, targets = parts[split]
            logits_wk = layer(features.forward[learned.source])
            found[split] = {
                'examples': len(targets),
                **example_metrics(logits_wk, features.example_w, targets, labels, counterparts),
            }
    return found


def _write(
    bundle: Bundle,
    heads: Mapping[str, Head],
    task: TaskSpec,
    output: Path,
    *,
    name: str,
    about: tuple[dict[str, Any], dict[str, Any]],
) -> Bundle:
    """Write the new bundle, whole or not at all, and load it.

    Args:
        bundle: The bundle to extend.
        heads: All heads of the new bundle, by task.
        task: The new task; replaces a task of the same name.
        output: Folder of the new bundle.
        name: Name of the new bundle; empty for a default.
        about: Metrics and provenance of the new task.
    """
    spec = bundle.spec
    tasks = tuple(task if known.name == task.name else known for known in spec.tasks)
    if task not in tasks:
        tasks = (*tasks, task)
    metrics, provenance = about
    weights = spec.backbone.weights
    with replace_folder(output) as partial:
        save_bundle(
            partial,
            MultiTaskModel(bundle.model.backbone, heads),
            name=name or f'{spec.name}-{task.name}',
            frame_period=spec.frame_period,
            tasks=tasks,
            backbone_weights=weights if weights in (HUB, RANDOM) else BACKBONE_FILE,
            backbone_arguments=spec.backbone.arguments,
            description=spec.description,
            license=spec.license,
            provenance={
                **spec.provenance,
                'taught': [*spec.provenance.get('taught', []), provenance],
            },
            metrics={
                **spec.metrics,
                'taught': {**spec.metrics.get('taught', {}), task.name: metrics},
            },
        )
    return load_bundle(output)

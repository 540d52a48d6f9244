# SPDX-License-Identifier: Apache-2.0
"""Learn a task from features: choose a trained head and a weight decay, fit, calibrate, score.

Cross-validation over the examples makes both choices. The logits on the held-out examples also
give the metrics and, without validation examples, the temperature.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from step_ros.evaluation.metrics import symmetric_metrics
from step_ros.fewshot.classifier import LinearLayer, fit_classifier, folds
from step_ros.fewshot.features import WindowFeatures, last_layer, with_last_layer
from step_ros.model.bundle_schema import TaskSpec
from step_ros.model.heads.base import Head
from step_ros.training.fit import fit_temperature

# Weight decays that cross-validation compares; without cross-validation, the first one is used.
DECAYS = (0.1, 0.01)
CalibratedOn = Literal['validation examples', 'cross-validation', 'nothing']


@dataclass(frozen=True, kw_only=True)
class FewShotTask:
    """A head for a task, learned from examples.

    Attributes:
        head: The body of a trained head with a new last layer.
        temperature: Temperature that calibrates the scores.
        calibrated_on: The data that the temperature was fitted on.
        source: The task whose head the body comes from.
        decay: Weight decay of the last layer.
        cross_validation: Metrics on the held-out examples of all folds; None if a label has a
            single example.
    """

    head: Head
    temperature: float
    calibrated_on: CalibratedOn
    source: str
    decay: float
    cross_validation: dict[str, float] | None


@dataclass(frozen=True, kw_only=True)
class _HeldOut:
    """Logits of the windows of held-out examples, from all folds."""

    logits_wk: Tensor
    targets_w: Tensor
    example_w: np.ndarray


def source_heads(heads: Mapping[str, Head], tasks: Sequence[TaskSpec]) -> dict[str, Head]:
    """Return the heads that a new task may build on, the most promising one first.

    A task without nearly symmetric labels does not force its head to learn the order of frames.
    Heads of these tasks are left out unless there are no others.
    """
    ranked = sorted(tasks, key=lambda task: -len(task.counterparts))
    symmetric = [task.name for task in ranked if task.counterparts]
    return {name: heads[name] for name in symmetric or [task.name for task in ranked]}


def learn_task(
    heads: Mapping[str, Head],
    features: WindowFeatures,
    targets: Mapping[int, int],
    *,
    labels: Sequence[str],
    counterparts: Mapping[str, str],
    reverse_pairs: bool = False,
    prior: LinearLayer | None = None,
    validation: tuple[WindowFeatures, Mapping[int, int]] | None = None,
    seed: int = 0,
) -> FewShotTask:
    """Learn a task from the features of examples.

    Args:
        heads: The trained heads to choose from, the most promising one first (`source_heads`).
        features: Features of the examples, computed by these heads.
        targets: Index of each example's label, by the index of the example.
        labels: All labels of the task.
        counterparts: Nearly symmetric partner of each label that has one.
        reverse_pairs: Whether a reversed example also counts as an example of the counterpart.
        prior: Last layer to start from, for the first labels.
        validation: Features and targets of further examples, to fit the temperature on.
        seed: Seed of the folds of the cross-validation.
    """
    partner_k = _partners(labels, counterparts) if reverse_pairs else None
    source, decay, held_out = _cross_validate(
        heads, features, targets, classes=len(labels), partner_k=partner_k, prior=prior, seed=seed
    )
    layer = _fit(source, decay, features, targets, len(labels), partner_k, prior)
    linear = nn.Linear(layer.weight_kd.shape[1], len(labels))
    linear.load_state_dict({'weight': layer.weight_kd, 'bias': layer.bias_k})
    metrics = None
    if held_out is not None:
        metrics = example_metrics(
            held_out.logits_wk, held_out.example_w, targets, labels, counterparts
        )
    temperature = 1.0
    calibrated_on: CalibratedOn = 'nothing'
    if validation is not None:
        x_wd, targets_w = validation[0].forward[source], _targets(*validation)
        temperature = fit_temperature(layer(x_wd), targets_w, samples=len(validation[1]))
        calibrated_on = 'validation examples'
    elif held_out is not None:
        temperature = fit_temperature(
            held_out.logits_wk,
            held_out.targets_w,
            samples=len(np.unique(held_out.example_w)),
        )
        calibrated_on = 'cross-validation'
    return FewShotTask(
        head=with_last_layer(heads[source], linear),
        temperature=temperature,
        calibrated_on=calibrated_on,
        source=source,
        decay=decay,
        cross_validation=metrics,
    )


def example_metrics(
    logits_wk: Tensor,
    example_w: np.ndarray,
    targets: Mapping[int, int],
    labels: Sequence[str],
    counterparts: Mapping[str, str],
) -> dict[str, Any]:
    """Return the metrics of logits; the scores of an example's windows are averaged first."""
    scores_ck, examples = example_scores(logits_wk, example_w)
    targets_c = np.array([targets[int(example)] for example in examples])
    return symmetric_metrics(scores_ck, targets_c, labels, counterparts)


def example_scores(logits_wk: Tensor, example_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean probabilities of each example's windows, and the numbers of the examples.

    Args:
        logits_wk: Logits of the windows.
        example_w: Number of each window's example.

    Returns:
        Probabilities `[c, k]` of c examples, and their numbers, ascending.
    """
    scores_wk = logits_wk.softmax(dim=-1).numpy()
    examples = np.unique(example_w)
    return np.stack([scores_wk[example_w == index].mean(axis=0) for index in examples]), examples


def layer_of(head: Head) -> LinearLayer:
    """Return a copy of the weights and biases of a head's last layer."""
    layer = last_layer(head)
    return LinearLayer(weight_kd=layer.weight.detach().clone(), bias_k=layer.bias.detach().clone())


def _cross_validate(
    heads: Mapping[str, Head],
    features: WindowFeatures,
    targets: Mapping[int, int],
    *,
    classes: int,
    partner_k: Tensor | None,
    prior: LinearLayer | None,
    seed: int,
) -> tuple[str, float, _HeldOut | None]:
    """Return the head and the decay with the least calibrated loss on held-out examples."""
    examples = np.unique(features.example_w)
    targets_e = np.array([targets[int(example)] for example in examples])
    parts = list(folds(examples, targets_e, seed=seed))
    if not parts:
        return next(iter(heads)), DECAYS[0], None
    tried: list[tuple[float, str, float, _HeldOut]] = []
    for source in heads:
        for decay in DECAYS:
            found = []
            for training, held_out_part in parts:
                layer = _fit(
                    source, decay, features.of(training), targets, classes, partner_k, prior
                )
                rest = features.of(held_out_part)
                found.append((layer(rest.forward[source]), rest))
            held_out = _HeldOut(
                logits_wk=torch.cat([logits_wk for logits_wk, _ in found]),
                targets_w=torch.cat([_targets(rest, targets) for _, rest in found]),
                example_w=np.concatenate([rest.example_w for _, rest in found]),
            )
            tried.append((_calibrated_loss(held_out), source, decay, held_out))
    _, source, decay, held_out = min(tried, key=lambda entry: entry[0])
    return source, decay, held_out


def _calibrated_loss(held_out: _HeldOut) -> float:
    temperature = fit_temperature(held_out.logits_wk, held_out.targets_w)
    loss = F.cross_entropy(held_out.logits_wk / temperature, held_out.targets_w).item()
    return loss if math.isfinite(loss) else math.inf


def _fit(
    source: str,
    decay: float,
    features: WindowFeatures,
    targets: Mapping[int, int],
    classes: int,
    partner_k: Tensor | None,
    prior: LinearLayer | None,
) -> LinearLayer:
    x_wd, targets_w = features.forward[source], _targets(features, targets)
    if partner_k is not None:
        has_partner_w = partner_k[targets_w] >= 0
        x_wd = torch.cat([x_wd, features.backward[source][has_partner_w]])
        targets_w = torch.cat([targets_w, partner_k[targets_w[has_partner_w]]])
    return fit_classifier(x_wd, targets_w, classes=classes, decay=decay, prior=prior)


def _targets(features: WindowFeatures, targets: Mapping[int, int]) -> Tensor:
    return torch.tensor([targets[int(example)] for example in features.example_w])


def _partners(labels: Sequence[str], counterparts: Mapping[str, str]) -> Tensor:
    """Return the index of each label's counterpart, -1 for a label without one."""
    places = {label: place for place, label in enumerate(labels)}
    return torch.tensor([places.get(counterparts.get(label, ''), -1) for label in labels])

# SPDX-License-Identifier: Apache-2.0
"""Multinomial logistic regression for few examples, and folds for its cross-validation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FOLDS = 5
ITERATIONS = 100
# A lower bound on the deviation that features are divided by: it keeps the noise of a nearly
# constant feature from being scaled up to unit variance.
LEAST_DEVIATION = 1e-6


@dataclass(frozen=True, kw_only=True)
class LinearLayer:
    """Weights and biases of a linear layer.

    Attributes:
        weight_kd: Weights.
        bias_k: Biases.
    """

    weight_kd: Tensor
    bias_k: Tensor

    def __call__(self, x_wd: Tensor) -> Tensor:
        """Return the logits of features, `[w, k]`."""
        return x_wd @ self.weight_kd.T + self.bias_k


def fit_classifier(
    x_wd: Tensor,
    targets_w: Tensor,
    *,
    classes: int,
    decay: float,
    prior: LinearLayer | None = None,
) -> LinearLayer:
    """Fit logistic regression; the loss is convex, so the result does not depend on a seed.

    Args:
        x_wd: Features of the windows.
        targets_w: Indices of the true labels. Every label has the same total weight in the loss,
            whatever its number of windows.
        classes: Number of labels (k).
        decay: Weight of the squared distance to the prior, in units of the features' deviations.
        prior: A layer for the first labels. Weight decay pulls their rows towards it and the rows
            of all other labels towards zero. None pulls every row towards zero.
    """
    mean_d = x_wd.double().mean(dim=0)
    std_d = x_wd.double().std(dim=0, correction=0).clamp_min(LEAST_DEVIATION)
    scaled_wd = (x_wd.double() - mean_d) / std_d
    centre_kd = torch.zeros(classes, x_wd.shape[1], dtype=torch.double)
    bias_k = torch.zeros(classes, dtype=torch.double)
    if prior is not None:
        known = len(prior.bias_k)
        centre_kd[:known] = prior.weight_kd.double() * std_d
        bias_k[:known] = prior.bias_k.double() + prior.weight_kd.double() @ mean_d
    weight_kd = centre_kd.clone().requires_grad_()
    bias_k.requires_grad_()
    counts_k = torch.bincount(targets_w, minlength=classes).clamp_min(1)
    share_w = 1 / counts_k[targets_w].double()
    share_w = share_w / share_w.sum()
    optimiser = torch.optim.LBFGS(
        [weight_kd, bias_k], max_iter=ITERATIONS, line_search_fn='strong_wolfe'
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits_wk = scaled_wd @ weight_kd.T + bias_k
        errors_w = F.cross_entropy(logits_wk, targets_w, reduction='none')
        value = (share_w * errors_w).sum() + decay / 2 * (weight_kd - centre_kd).square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    plain_kd = weight_kd.detach() / std_d
    return LinearLayer(
        weight_kd=plain_kd.float(), bias_k=(bias_k.detach() - plain_kd @ mean_d).float()
    )


def folds(
    examples: np.ndarray, targets: np.ndarray, *, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield splits of the examples into training and held-out examples, for cross-validation.

    Every label has a training example in each split. Each example is held out once.

    Args:
        examples: Indices of the examples, each once.
        targets: Index of each example's label.
        seed: Seed of the random assignment to folds.

    Yields:
        Indices of the training examples and of the held-out examples. Yields nothing if a label
        has a single example.
    """
    count = min(FOLDS, *np.unique(targets, return_counts=True)[1].tolist())
    if count < 2:
        return
    rng = np.random.default_rng(seed)
    fold = np.empty(len(examples), dtype=np.int64)
    for label in np.unique(targets):
        places = rng.permutation(np.flatnonzero(targets == label))
        fold[places] = np.arange(len(places)) % count
    for number in range(count):
        yield examples[fold != number], examples[fold == number]

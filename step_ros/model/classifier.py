"""The last layer of a head: linear, or the small MLP that the papers' parameter counts fit."""

from typing import Literal

from torch import nn

from step_ros.model.tokens import check_choice

Classifier = Literal['linear', 'mlp']


def create_classifier(kind: Classifier, *, width: int, classes: int) -> nn.Module:
    """Return a classifier of pooled features, `[b, d]` to `[b, k]`.

    The STEP papers call STEP's last layer linear (Sec. III.A) and that of linear probing "an
    MLP head" (longer version, Sec. D). Their 0.3, 2.6 and 7.3 M trainable parameters for linear
    probing, STEP and attentive probing at width 768 fit, truncated, `mlp` in all three:
    768 -> 384 -> 34 alone is 0.31 M, a linear layer 0.03 M. The activation is not given; ReLU as
    in the "+ ReLU" fusions of the fusion paper, Sec. 3.4.

    Args:
        kind: `linear`, or `mlp` (width -> width/2 -> classes).
        width: Channels of a token (d).
        classes: Number of labels (k).

    Raises:
        ValueError: `kind` is unknown.
    """
    check_choice('classifier', kind, Classifier)
    if kind == 'linear':
        return nn.Linear(width, classes)
    hidden = max(1, width // 2)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes))

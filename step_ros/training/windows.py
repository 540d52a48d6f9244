# SPDX-License-Identifier: Apache-2.0
"""Windows to learn from: cached tokens with their labels."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from step_ros.datasets.clip import ClipRecord
from step_ros.model.tokens import TokenKind
from step_ros.training.feature_cache.cache import FeatureCache

# Target of a clip without a label for a task; the loss skips it. cross_entropy ignores -100, too.
NO_LABEL = -100


class Windows(Protocol):
    """Clips that each have one or more windows to choose from.

    Attributes:
        kind: Kind of the tokens.
        targets: Number of each clip's label, by task; `NO_LABEL` for a clip without one.
    """

    kind: TokenKind
    targets: Mapping[str, Tensor]

    def __len__(self) -> int:
        """Return the number of clips."""

    def choose(self, index: int, rng: np.random.Generator) -> int:
        """Return the number of a random window of a clip."""

    def read(self, index: int, choice: int) -> Tensor:
        """Return the tokens of a chosen window of a clip, float32, `[t, n, d]`."""


class CachedWindows:
    """Windows of a feature cache: the cached views of each clip.

    Args:
        cache: The tokens.
        records: The clips to learn from; clips that could not be encoded are left out.
        tasks: All labels of each task, in order.

    Attributes:
        left_out: Names of the clips that are not in the cache.
    """

    def __init__(
        self,
        cache: FeatureCache,
        records: Sequence[ClipRecord],
        tasks: Mapping[str, Sequence[str]],
    ) -> None:
        self._cache = cache
        self.kind: TokenKind = cache.spec.tokens
        self.left_out = [record.clip_id for record in records if record.clip_id not in cache]
        kept = [record for record in records if record.clip_id in cache]
        self._names = [record.clip_id for record in kept]
        self.targets: Mapping[str, Tensor] = label_numbers(
            [record.labels for record in kept], tasks
        )

    def __len__(self) -> int:
        return len(self._names)

    def choose(self, index: int, rng: np.random.Generator) -> int:
        """Return the number of a random view."""
        return int(rng.integers(self._cache.spec.views))

    def read(self, index: int, choice: int) -> Tensor:
        """Return the tokens of a view, float32, `[t, n, d]`."""
        return self._cache.read(self._names[index], choice)


def label_numbers(
    labels: Sequence[Mapping[str, str]], tasks: Mapping[str, Sequence[str]]
) -> dict[str, Tensor]:
    """Return the numbers of the clips' labels, by task; `NO_LABEL` for a clip without one.

    Args:
        labels: Labels of each clip, by task; a task may be missing.
        tasks: All labels of each task, in order.

    Raises:
        ValueError: A clip has a label that its task does not have.
    """
    numbers: dict[str, Tensor] = {}
    for task, names in tasks.items():
        places = {name: place for place, name in enumerate(names)}
        found = []
        for clip, by_task in enumerate(labels):
            label = by_task.get(task)
            if label is not None and label not in places:
                raise ValueError(
                    f'clip {clip}: {label!r} is no label of task {task!r}; expected one of '
                    + ', '.join(names)
                )
            found.append(NO_LABEL if label is None else places[label])
        numbers[task] = torch.tensor(found)
    return numbers

# SPDX-License-Identifier: Apache-2.0
"""A model of several tasks that share one backbone pass.

Source: Sec. IV.D of the human-robot interaction paper.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from step_ros.model.backbone import Backbone
from step_ros.model.heads.base import Head


class MultiTaskModel(nn.Module):
    """A frozen backbone, optionally with adapters, and one head per task.

    Args:
        backbone: The frozen encoder. It is set to return the tokens that the heads consume.
        heads: A head for each task, in the order of the tasks; all consume the same tokens.

    Raises:
        ValueError: The heads consume different tokens, or tokens that the backbone does not have.
    """

    def __init__(self, backbone: Backbone, heads: Mapping[str, Head]) -> None:
        super().__init__()
        kinds = {head.consumes for head in heads.values()}
        if len(kinds) != 1:
            raise ValueError(f'the heads of a model must consume the same tokens; found {kinds}')
        self.backbone = backbone.give(kinds.pop())
        self.heads = nn.ModuleDict(heads)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""
        return tuple(self.heads)

    def predict(self, x_btnd: Tensor) -> dict[str, Tensor]:
        """Run all heads on windows of encoded tokens.

        Args:
            x_btnd: Tokens, oldest frame first.

        Returns:
            Logits `[b, k]` of each task.
        """
        return {task: head(x_btnd) for task, head in self.heads.items()}

    def forward(self, x_bt3hw: Tensor) -> dict[str, Tensor]:
        """Encode whole clips frame by frame and run all heads.

        Args:
            x_bt3hw: Normalised RGB clips, oldest frame first.

        Returns:
            Logits `[b, k]` of each task.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.backbone.learns):
            x_bnd = self.backbone(x_bt3hw.flatten(0, 1))
        return self.predict(x_bnd.unflatten(0, x_bt3hw.shape[:2]))

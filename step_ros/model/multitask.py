"""Several tasks in one backbone pass (Sec. IV.D of the human-robot interaction paper)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from step_ros.model.backbone import Backbone


class MultiTaskModel(nn.Module):
    """A frozen backbone with one head per task.

    Args:
        backbone: The frozen encoder.
        heads: A head for each task, in the order of the tasks.
    """

    def __init__(self, backbone: Backbone, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""
        return tuple(self.heads)

    def decide(self, x_btnd: Tensor) -> dict[str, Tensor]:
        """Run all heads on tokens that were encoded before.

        Args:
            x_btnd: Patch tokens of windows, oldest frame first.

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
        with torch.no_grad():
            x_bnd = self.backbone(x_bt3hw.flatten(0, 1))
        return self.decide(x_bnd.unflatten(0, x_bt3hw.shape[:2]))

# SPDX-License-Identifier: Apache-2.0
"""Visual prompt tuning (VPT): trainable tokens beside those of the image.

Source: Jia et al., "Visual Prompt Tuning", 2022. Details that the paper leaves open follow the
authors' public code. The STEP paper (Table IV) does not say whether its VPT is deep or shallow.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from step_ros.model.backbone import AdaptedLayer


class PromptedBlock(AdaptedLayer):
    """A block that inserts prompts between prefix tokens and patches, removes them, or both.

    Args:
        frozen: A block of a vision transformer.
        width: Channels of a token (d).
        prefix: Number of tokens before the prompts (CLS, registers).
        prompts: Number of prompts (p).
        bound: Initial prompts are uniform in ± `bound`; None for a block that inserts none.
        removes: Whether the block drops its outputs for the prompts.

    Attributes:
        prompts_pd: The prompts, `[p, d]`; None in a block that inserts none.
    """

    prompts_pd: nn.Parameter | None

    def __init__(
        self,
        frozen: nn.Module,
        *,
        width: int,
        prefix: int,
        prompts: int,
        bound: float | None,
        removes: bool,
    ) -> None:
        super().__init__(frozen)
        self.prefix, self.prompts, self.removes = prefix, prompts, removes
        self.prompts_pd = None
        if bound is not None:
            self.prompts_pd = nn.Parameter(torch.empty(prompts, width).uniform_(-bound, bound))

    def forward(self, x_bld: Tensor) -> Tensor:
        """Return the tokens after the block, `[b, l, d]`; `l` may or may not include prompts."""
        if self.prompts_pd is not None:
            prompts_bpd = self.prompts_pd.expand(x_bld.shape[0], -1, -1)
            before, after = x_bld[:, : self.prefix], x_bld[:, self.prefix :]
            x_bld = torch.cat([before, prompts_bpd, after], dim=1)
        x_bld = self.frozen(x_bld)
        if self.removes:
            before, after = x_bld[:, : self.prefix], x_bld[:, self.prefix + self.prompts :]
            x_bld = torch.cat([before, after], dim=1)
        return x_bld


def insert_prompts(vit: Any, *, prompts: int, deep: bool) -> None:
    """Insert prompts into a vision transformer.

    Shallow prompts enter before the first block and leave after the last. In CLIP they enter after
    `norm_pre`, which VPT's backbones do not have. Deep prompts differ between blocks: each block
    inserts its own and removes its outputs for them.

    Args:
        vit: A timm VisionTransformer; its blocks are replaced.
        prompts: Number of prompts.
        deep: Whether every block has prompts of its own.
    """
    height, width = vit.patch_embed.patch_size
    bound = math.sqrt(6 / (3 * height * width + vit.embed_dim))
    last = len(vit.blocks) - 1
    for index, block in enumerate(vit.blocks):
        inserts, removes = deep or index == 0, deep or index == last
        if inserts or removes:
            vit.blocks[index] = PromptedBlock(
                block,
                width=vit.embed_dim,
                prefix=vit.num_prefix_tokens,
                prompts=prompts,
                bound=bound if inserts else None,
                removes=removes,
            )

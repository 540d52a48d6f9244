# SPDX-License-Identifier: Apache-2.0
"""The foundation models of the papers, and newer ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class PublishedBackbone:
    """A backbone with published weights.

    Attributes:
        name: timm's name of architecture and weights, for `create_backbone` and bundles.
        role: Remark for `docs/heads.md`: who uses it, and its limits.
    """

    name: str
    role: str


# The titles are those of the papers' tables.
PUBLISHED: Mapping[str, PublishedBackbone] = MappingProxyType(
    {
        'DINOv2 ViT-B/14': PublishedBackbone(
            name='vit_base_patch14_dinov2.lvd142m', role='best in the papers'
        ),
        'CLIP ViT-B/16': PublishedBackbone(
            # OpenAI trained with the quick GELU, which timm's entry without it leaves out.
            name='vit_base_patch16_clip_quickgelu_224.openai',
            role='second backbone of the papers',
        ),
        'DINOv3 ViT-B/16': PublishedBackbone(
            name='vit_base_patch16_dinov3.lvd1689m',
            role='newer; does not accept adapters; check its licence',
        ),
        'SigLIP 2 ViT-B/16': PublishedBackbone(
            name='vit_base_patch16_siglip_224.v2_webli',
            role='newer; no CLS token, so only heads that consume patches',
        ),
    }
)

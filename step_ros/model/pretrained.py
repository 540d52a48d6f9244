"""The foundation models of the papers, and the newer ones that take their place."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class PublishedBackbone:
    """A backbone with published weights.

    Attributes:
        name: timm's name of architecture and weights, as `create_backbone` and bundles take it.
        role: Why it is here.
    """

    name: str
    role: str


# Titles are those of the papers' tables.
PUBLISHED: Mapping[str, PublishedBackbone] = MappingProxyType(
    {
        'DINOv2 ViT-B/14': PublishedBackbone(
            name='vit_base_patch14_dinov2.lvd142m', role="the papers' best"
        ),
        'CLIP ViT-B/16': PublishedBackbone(
            # OpenAI trained with the quick GELU, which the plain entry leaves out.
            name='vit_base_patch16_clip_quickgelu_224.openai',
            role="the papers' other one",
        ),
        'DINOv3 ViT-B/16': PublishedBackbone(
            name='vit_base_patch16_dinov3.lvd1689m',
            role='newer; its blocks take no adapters; mind its licence',
        ),
        'SigLIP 2 ViT-B/16': PublishedBackbone(
            name='vit_base_patch16_siglip_224.v2_webli',
            role='newer; no CLS token, so heads on patches alone',
        ),
    }
)

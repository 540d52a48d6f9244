# SPDX-License-Identifier: Apache-2.0
"""docs/heads.md agrees with the registries."""

from pathlib import Path

import pytest
import torch

from step_ros.experiments.heads_document import heads_document
from step_ros.model.backbone import create_backbone
from step_ros.model.pretrained import PUBLISHED

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).resolve().parents[2] / 'docs' / 'heads.md'


def test_document_is_up_to_date():
    assert DOCUMENT.read_text(encoding='utf-8') == heads_document(), 'run `make docs`'


@pytest.mark.parametrize('title', PUBLISHED)
def test_every_published_backbone_returns_tokens(title):
    """Check architecture and shapes with random weights; the published ones are on the hub."""
    backbone = create_backbone(
        PUBLISHED[title].name, weights='random', image_size=(224, 224), arguments={'depth': 1}
    )
    tokens_bnd = backbone(torch.zeros(1, 3, 224, 224))
    assert tokens_bnd.shape == (1, backbone.tokens, 768)
    assert backbone.tokens == (256 if 'B/14' in title else 196)

# SPDX-License-Identifier: Apache-2.0
"""The generator of `docs/heads.md`: texts from the registries, counts on the real modules."""

from collections.abc import Iterator

from step_ros.experiments.complexity import CLASSES, DINOV2, FRAMES, SIZE, counted_backbone
from step_ros.model.backbone import create_backbone
from step_ros.model.complexity import count_head, on_meta, trainable_parameters
from step_ros.model.heads.registry import HEADS, HeadEntry, create_head
from step_ros.model.peft.registry import PEFT_METHODS
from step_ros.model.pretrained import PUBLISHED
from step_ros.reporting.markdown import markdown_table

TOKENS = {'patches': 'n', 'cls': '1', 'all': '1+n'}

TOP = """# Heads, adapters and backbones

`make docs` writes this page from the registries; do not edit it. Parameters and multiply-adds are
counted on the real modules by torch's counter, for {backbone} at {size} px, {frames} frames and
{classes} labels, with the options shown. One GFLOP is 1e9 multiply-adds. `step_ros complexity`
prints these figures beside those of the papers.

A head turns the tokens of a window, `[b, t, n, d]`, into logits, `[b, k]`. It consumes the patches
of each frame, the CLS token of each frame, or all of them (the CLS token first). The logits of an
*order-aware* head depend on the order of the frames. The logits of the other heads do not, for any
weights. Property tests check this for every head.

```python
from step_ros.model.heads.registry import create_head

head = create_head('step', width=768, frames=16, tokens=256, classes=33, positions='hybrid')
```

In a bundle, `heads: {{name: ..., options: {{...}}}}` chooses the head, and the node runs it.

## Heads
"""

MIDDLE = """
The ablations of STEP are options of `step`. The tables are those of the longer STEP paper: `block`
(Tables 9, 19), `positions` (11, 14, 18), `pooling` (10), `cls` (13), any number of frames (21).
`positions` on `attentive` and `self-attention` is Table 20. With `classifier='mlp'` (width,
width/2, labels) the trainable parameters are those of the papers: 0.3, 2.6 and 7.3 M.

`StepHead.attention_maps` returns two maps for each frame. One holds the attention of the global
CLS token to each patch. The other holds the attention that each patch receives on average: the
column means, which are the weights of the patches in the mean that is classified. `make docs`
draws them for a window of the shipped model, every second frame. From top to bottom: the frames,
the attention of the CLS token, the column means. The CLS token is one of 385 tokens in that mean,
and its attention favours no part of the image. The column means follow the hand.

![Frames of picking up a bottle, attention of the CLS token, column means](images/attention.png)

## Adapters inside the backbone

The papers compare STEP with adapters (Tables I, II, IV, V). `insert_adapters(backbone, name,
frames=16)` inserts them into a frozen ViT; the figures are the additional cost. Image adapters
encode each frame on its own: a stream can use them, and a bundle can hold them. Video adapters mix
the frames of a window, so every hypothesis would encode the whole window again. They can be
trained and evaluated, but a bundle refuses them.
"""

BOTTOM = """
With adapters, every task needs its own backbone pass. The heads of STEP share one pass:

![Compute against the number of tasks](images/complexity.png)

## Backbones

Most vision transformers of timm work. These are tested:
"""


def heads_document() -> str:
    """Return the whole document as Markdown."""
    parts = [
        TOP.format(backbone=DINOV2, size=SIZE, frames=FRAMES, classes=CLASSES),
        markdown_table(_HEAD_TITLES, list(_head_rows())),
        MIDDLE,
        markdown_table(_ADAPTER_TITLES, list(_adapter_rows())),
        BOTTOM,
        markdown_table(_BACKBONE_TITLES, list(_backbone_rows())),
    ]
    return '\n'.join(parts) + '\n'


_HEAD_TITLES = (
    'name',
    'in the papers',
    'source',
    'consumes',
    'order-aware',
    'parameters M',
    'GFLOPs',
    'options and defaults',
)
_ADAPTER_TITLES = ('name', 'source', 'streams', 'parameters M', 'GFLOPs added', 'options')
_BACKBONE_TITLES = (
    'backbone',
    "timm's name",
    'width',
    'patches at 224 px',
    'CLS token',
    'remark',
)


def _options(entry: HeadEntry) -> str:
    return ', '.join(f'`{key}={value}`' for key, value in entry.options.items())


def _head_rows() -> Iterator[tuple[str, ...]]:
    backbone, _ = counted_backbone(DINOV2, None)
    for name, entry in HEADS.items():
        head = on_meta(
            create_head,
            name,
            width=backbone.width,
            frames=FRAMES,
            tokens=backbone.tokens,
            classes=CLASSES,
        )
        yield (
            f'`{name}`',
            entry.title,
            entry.source,
            f'{head.consumes}: `[b, t, {TOKENS[head.consumes]}, d]`',
            'yes' if head.order_aware else 'no',
            f'{trainable_parameters(head) / 1e6:.2f}',
            f'{count_head(head, patches=backbone.tokens).full:.3f}',
            _options(entry),
        )


def _adapter_rows() -> Iterator[tuple[str, ...]]:
    _, bare = counted_backbone(DINOV2, None)
    for name, method in PEFT_METHODS.items():
        backbone, cost = counted_backbone(DINOV2, name)
        parameters = trainable_parameters(backbone)
        options = ', '.join(f'`{key}={value.default}`' for key, value in method.options.items())
        yield (
            f'`{name}`',
            method.source,
            'no' if method.temporal else 'yes',
            f'{parameters / 1e6:.2f}',
            f'{cost.full - bare.full:.1f}',
            options,
        )


def _backbone_rows() -> Iterator[tuple[str, ...]]:
    for title, published in PUBLISHED.items():
        backbone = on_meta(
            create_backbone, published.name, weights='random', image_size=(SIZE, SIZE)
        )
        yield (
            title,
            f'`{published.name}`',
            str(backbone.width),
            f'{backbone.grid_size[0]} x {backbone.grid_size[1]}',
            'yes' if backbone.has_cls else 'no',
            published.role,
        )

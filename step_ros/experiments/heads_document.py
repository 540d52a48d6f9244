"""`docs/heads.md`, written from the registry and counted on the real modules."""

from collections.abc import Iterable

from step_ros.experiments.complexity import CLASSES, DINOV2, FRAMES, SIZE, counted_backbone
from step_ros.model.backbone import create_backbone
from step_ros.model.complexity import count_head, on_meta, trainable_parameters
from step_ros.model.heads.registry import HEADS, HeadEntry, create_head
from step_ros.model.peft.registry import PEFT_METHODS
from step_ros.model.pretrained import PUBLISHED

TOKENS = {'patches': 'n', 'cls': '1', 'all': '1+n'}

TOP = """# Heads, adapters and backbones

Written by `make docs` from the registries; do not edit. Parameters and multiply-adds (one counts
one; torch's counter on the real modules) are for {backbone} at {size} px, {frames} frames,
{classes} labels, with the options shown. `step_ros complexity` prints the same beside the papers'
figures.

A head takes the tokens of a window, `[b, t, n, d]`, and gives logits, `[b, k]`. It consumes the
patches of each frame, its CLS token, or all (the CLS token first). *Order-aware* heads can tell a
window from the same frames in another order; the others cannot, whatever their weights. Property
tests hold every head to it.

```python
from step_ros.model.heads.registry import create_head

head = create_head('step', width=768, frames=16, tokens=256, classes=33, positions='hybrid')
```

In a bundle, `heads: {{name: ..., options: {{...}}}}` chooses the head; the node follows.

## Heads
"""

MIDDLE = """
STEP's ablations are options of `step`: `block` (Tables 9, 19 of the longer STEP paper),
`positions` (11, 14, 18), `pooling` (10), `cls` (13), any number of frames (21); `positions` on
`attentive` and `self-attention` is Table 20. With `classifier='mlp'` (width, width/2, labels) the
trainable parameters are the papers' 0.3, 2.6 and 7.3 M.

`StepHead.attention_maps` gives, for each frame, where the global CLS token looks, and how much
each patch is looked at on average (the column means: what a patch counts in the mean that is
classified). Below is a window of the shipped model, every second frame, drawn by `make docs`: the
frames, the CLS token's attention, the column means. The CLS token is one of 385 in that mean and
looks at nothing in particular; the column means follow the hand.

![Frames of picking up a bottle, attention of the CLS token, column means](images/attention.png)

## Adapters inside the backbone

For comparison with STEP (Tables I, II, IV, V). `insert_adapters(backbone, name, frames=16)` puts
them into a frozen ViT; the counts are what they add to it. Image adapters treat each frame on its
own, so they stream, and go into a bundle. Video adapters mix the frames of a window, which has to
be encoded anew for every hypothesis: they can be trained and evaluated, a bundle refuses them.
"""

BOTTOM = """
With adapters, every task has its own backbone pass; STEP's heads share one:

![Compute against the number of tasks](images/complexity.png)

## Backbones

Any vision transformer of timm will do. These are meant:
"""


def heads_document() -> str:
    """Write the whole document."""
    parts = [
        TOP.format(backbone=DINOV2, size=SIZE, frames=FRAMES, classes=CLASSES),
        *_table(_HEAD_TITLES, _head_rows()),
        MIDDLE,
        *_table(_ADAPTER_TITLES, _adapter_rows()),
        BOTTOM,
        *_table(_BACKBONE_TITLES, _backbone_rows()),
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
_BACKBONE_TITLES = ('', "timm's name", 'width', 'patches at 224 px', 'CLS token', '')


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [titles, tuple('---' for _ in titles), *rows]
    return ['| ' + ' | '.join(cells) + ' |' for cells in lines]


def _options(entry: HeadEntry) -> str:
    return ', '.join(f'`{key}={value}`' for key, value in entry.options.items())


def _head_rows() -> Iterable[tuple[str, ...]]:
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


def _adapter_rows() -> Iterable[tuple[str, ...]]:
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


def _backbone_rows() -> Iterable[tuple[str, ...]]:
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

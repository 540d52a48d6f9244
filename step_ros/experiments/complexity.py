# SPDX-License-Identifier: Apache-2.0
"""Multiply-adds and trainable parameters of every method, beside the papers' figures.

The papers' figures are copied from their tables. Ours are counted on the real modules in the
papers' setting: ViT-B at 224 px, 16 frames, one view, and 33 labels (IKEA-ASM) for every task.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from step_ros.model.backbone import Backbone, TokenAverage, create_backbone
from step_ros.model.complexity import (
    Cost,
    as_in_the_papers,
    count_cost,
    count_head,
    full,
    on_meta,
    trainable_parameters,
)
from step_ros.model.heads.base import Head
from step_ros.model.heads.registry import HEADS, create_head
from step_ros.model.peft.registry import insert_adapters
from step_ros.model.pretrained import PUBLISHED

FRAMES, SIZE, CLASSES = 16, 224, 33

BACKBONES = DINOV2, CLIP = 'DINOv2 ViT-B/14', 'CLIP ViT-B/16'

MLP = {'classifier': 'mlp'}

THREE_VIEWS = 'the paper counts three views of 16 frames'


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way of recognising actions, and its cost in the papers.

    Attributes:
        name: Name in the table.
        head: Name of its head in the registry.
        options: Options that differ from the head's defaults.
        peft: Name of the adapters in the backbone; None for the frozen backbone.
        tasks: Number of tasks that the method predicts.
        paper_params_m: Trainable parameters in the papers, in millions.
        paper_gflops: GFLOPs in the papers, by backbone.
        note: Source of the papers' figures, and how they differ from ours.
    """

    name: str
    head: str
    options: Mapping[str, Any] = field(default_factory=dict)
    peft: str | None = None
    tasks: int = 1
    paper_params_m: float | None = None
    paper_gflops: Mapping[str, float] = field(default_factory=dict)
    note: str = ''

    @property
    def passes(self) -> int:
        """Backbone passes: one, or one per task if the method has adapters."""
        return self.tasks if self.peft else 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        method: The method's name.
        backbone: The backbone's title.
        tasks: Number of tasks that the method predicts.
        params_m: Trainable parameters of all tasks, in millions.
        gflops_full: Multiply-adds of backbone, adapters and heads, in units of 1e9.
        gflops: Multiply-adds by the papers' convention (`model/complexity.py`), in units of 1e9.
        paper_params_m: Trainable parameters in the papers, in millions; None if not reported.
        paper_gflops: GFLOPs in the papers; None if not reported.
        note: Source of the papers' figures, and how they differ from ours.
    """

    method: str
    backbone: str
    tasks: int
    params_m: float
    gflops_full: float
    gflops: float
    paper_params_m: float | None
    paper_gflops: float | None
    note: str = ''

    def as_dict(self) -> dict[str, Any]:
        """Return the row for a JSON file, with figures rounded to four decimals."""
        values = {key: value for key, value in vars(self).items() if key != 'note'}
        return {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in values.items()
        }


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """The cost of a STEP head on a grid of tokens; full counts, in units of 1e9.

    Attributes:
        backbone: The backbone's title.
        token_grid: Rows and columns of patch tokens; the first row of a backbone has one token
            per patch, as in the papers.
        tokens: Patch tokens of a frame.
        head_gflops: Multiply-adds of the head on one window.
        frame_gflops: Multiply-adds of the backbone on one frame; equal for all token grids.
    """

    backbone: str
    token_grid: tuple[int, int]
    tokens: int
    head_gflops: float
    frame_gflops: float


METHODS = (
    Method(
        name='linear',
        head='linear',
        options=MLP,
        paper_params_m=0.3,
        paper_gflops={CLIP: 269.6, DINOV2: 351.5},
        note='STEP Table I',
    ),
    Method(
        name='attentive',
        head='attentive',
        options=MLP,
        paper_params_m=7.3,
        paper_gflops={CLIP: 273.6, DINOV2: 356.3},
        note='STEP Table I',
    ),
    Method(
        name='self-attention',
        head='self-attention',
        options=MLP,
        paper_params_m=2.6,
        paper_gflops={CLIP: 308.1, DINOV2: 413.5},
        note='STEP Table I',
    ),
    Method(
        name='step',
        head='step',
        options=MLP,
        paper_params_m=2.6,
        paper_gflops={CLIP: 307.8, DINOV2: 413.1},
        note='STEP Table I',
    ),
    Method(
        name='step attn+ln+skip',
        head='step',
        options={**MLP, 'block': 'attn+ln+skip'},
        paper_params_m=2.6,
        note='STEP (long) Table 19',
    ),
    Method(
        name='step full',
        head='step',
        options={'block': 'full'},
        paper_params_m=7.1,
        note='STEP (long) Table 19, which fits the linear classifier; mlp would be 7.4',
    ),
    Method(
        name='vpt-deep + linear',
        head='linear',
        peft='vpt-deep',
        paper_gflops={DINOV2: 362.4},
        note='STEP Table V; 8 prompts, derived from its figure',
    ),
    Method(name='vpt-deep + step', head='step', peft='vpt-deep', note='STEP Table IV'),
    Method(name='vpt-shallow + linear', head='linear', peft='vpt-shallow'),
    Method(name='adaptformer + linear', head='linear', peft='adaptformer', note='STEP Table IV'),
    Method(name='adaptformer + step', head='step', peft='adaptformer', note='STEP Table IV'),
    Method(
        name='st-adapter',
        head='linear',
        peft='st-adapter',
        paper_params_m=7.1,
        paper_gflops={CLIP: 911.0, DINOV2: 1099.0},
        note=f'STEP Table I; {THREE_VIEWS}',
    ),
    Method(name='aim', head='linear', peft='aim', paper_params_m=11.0, note='STEP (long) Table 5'),
    Method(
        name='step',
        head='step',
        options=MLP,
        tasks=3,
        paper_gflops={DINOV2: 536.5},
        note='STEP Table V, one pass',
    ),
    Method(
        name='vpt-deep + linear',
        head='linear',
        peft='vpt-deep',
        tasks=3,
        paper_gflops={DINOV2: 1087.0},
        note='STEP Table V, three passes',
    ),
    Method(
        name='st-adapter',
        head='linear',
        peft='st-adapter',
        tasks=3,
        paper_gflops={DINOV2: 3297.0},
        note=f'STEP Table V, three passes; {THREE_VIEWS}',
    ),
    *(
        Method(name=name, head=name, note='fusion paper Sec. 3.4')
        for name in HEADS
        if 'fusion' in name
    ),
)


def complexity_rows() -> list[Row]:
    """Count every method on both backbones of the papers."""
    return [count_method(method, title) for title in BACKBONES for method in METHODS]


def count_method(method: Method, backbone_title: str) -> Row:
    """Count one method on one backbone."""
    backbone, backbone_cost = counted_backbone(backbone_title, method.peft)
    head: Head = on_meta(
        create_head,
        method.head,
        width=backbone.width,
        frames=FRAMES,
        tokens=backbone.tokens,
        classes=CLASSES,
        **method.options,
    )
    head_costs = [count_head(head, patches=backbone.tokens)] * (method.tasks // method.passes)
    return Row(
        method=method.name,
        backbone=backbone_title,
        tasks=method.tasks,
        params_m=method.tasks * trainable_parameters(backbone, head) / 1e6,
        gflops_full=method.passes * full(backbone_cost, head_costs),
        gflops=method.passes * as_in_the_papers(backbone_cost, head_costs),
        paper_params_m=method.paper_params_m,
        paper_gflops=method.paper_gflops.get(backbone_title),
        note=method.note,
    )


@cache
def counted_backbone(title: str, peft: str | None) -> tuple[Backbone, Cost]:
    """Return a backbone on the meta device, and its cost on the frames of one view.

    Args:
        title: The backbone's title in `PUBLISHED`.
        peft: Name of the adapters to insert; None for none.
    """
    backbone: Backbone = on_meta(
        create_backbone, PUBLISHED[title].name, weights='random', image_size=(SIZE, SIZE)
    )
    if peft is not None:
        on_meta(insert_adapters, backbone, peft, frames=FRAMES)
    return backbone, count_cost(backbone, torch.empty(FRAMES, 3, SIZE, SIZE, device='meta'))


def grid_rows() -> list[GridRow]:
    """Count a STEP head on every token grid whose blocks of patches are square."""
    found = []
    for title in BACKBONES:
        backbone, cost = counted_backbone(title, None)
        rows, columns = backbone.grid_size
        most = math.gcd(rows, columns)
        for side in (side for side in range(1, most + 1) if most % side == 0):
            average = TokenAverage(
                given=backbone.grid_size, token_grid=(rows // side, columns // side)
            )
            head: Head = on_meta(
                create_head,
                'step',
                width=backbone.width,
                frames=FRAMES,
                tokens=average.tokens,
                classes=CLASSES,
                **MLP,
            )
            found.append(
                GridRow(
                    backbone=title,
                    token_grid=average.token_grid,
                    tokens=average.tokens,
                    head_gflops=count_head(head, patches=average.tokens).full,
                    frame_gflops=cost.full / FRAMES,
                )
            )
    return found


def scaling(backbone_title: str, most_tasks: int) -> dict[str, list[float]]:
    """Return the full counts for 1 to `most_tasks` tasks by method, for one view.

    Source: Fig. 4 of the human-robot interaction paper.
    """
    chosen = {
        'STEP': Method(name='step', head='step', options=MLP),
        'VPT-Deep + linear': Method(name='vpt', head='linear', peft='vpt-deep'),
        'ST-Adapter': Method(name='st-adapter', head='linear', peft='st-adapter'),
        'AIM': Method(name='aim', head='linear', peft='aim'),
    }
    counts = range(1, most_tasks + 1)
    return {
        title: [
            count_method(Method(**{**vars(method), 'tasks': tasks}), backbone_title).gflops_full
            for tasks in counts
        ]
        for title, method in chosen.items()
    }


def plot_scaling(path: Path, *, most_tasks: int = 5) -> None:
    """Draw the multiply-adds of each method against the number of tasks, for both backbones.

    Source: Fig. 4 of the human-robot interaction paper.

    Args:
        path: Image file to write; its folder is made.
        most_tasks: Largest number of tasks on the horizontal axis.
    """
    figure = Figure(figsize=(11, 4.5), layout='constrained')
    axes = figure.subplots(1, len(BACKBONES), sharey=True)
    tasks = range(1, most_tasks + 1)
    for panel, title in zip(axes, BACKBONES, strict=True):
        for (name, gflops), marker in zip(scaling(title, most_tasks).items(), 'osD^', strict=True):
            panel.plot(
                tasks,
                gflops,
                marker=marker,
                label=name,
                linewidth=3 if name == 'STEP' else 1.5,
            )
        panel.set_title(title)
        panel.set_xlabel('tasks')
        panel.set_xticks(list(tasks))
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    axes[0].set_ylabel('GFLOPs (multiply-adds, full count)')
    axes[0].legend()
    figure.suptitle(
        f'{FRAMES} frames of {SIZE} px, one view: STEP encodes once for all tasks, '
        'adapters once for each'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)

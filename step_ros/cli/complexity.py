# SPDX-License-Identifier: Apache-2.0
"""`step_ros complexity`: parameters and compute of every method, beside the papers' figures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from step_ros.cli.common import open_console, save_json
from step_ros.cli.outputs import output_file

if TYPE_CHECKING:
    from step_ros.experiments.complexity import GridRow, Row

NOTES = """\
full, paper*, paper: 1e9 multiply-adds for one window.
  full    every multiply-add of backbone, adapters and heads, counted on the modules, one view
  paper*  counted by the papers' convention, which follows from their figures: without the
          attention products in the backbone and its adapters, and with them twice in a head
  paper   printed in the papers
The four probes end in an MLP (width, width/2, 33), which fits the papers' parameter counts.
Parameters are those of all tasks."""


def complexity(
    json_file: Annotated[
        Path | None,
        typer.Option('--json', callback=output_file, help='Write the table to this file.'),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            callback=output_file,
            help='Draw compute against the number of tasks into this image file.',
        ),
    ] = None,
) -> None:
    """Print parameters and compute of every method beside the papers' figures."""
    from step_ros.experiments.complexity import BACKBONES, complexity_rows, grid_rows

    console = open_console()
    rows = complexity_rows()
    for backbone in BACKBONES:
        console.print(_table(backbone, [row for row in rows if row.backbone == backbone]))
    console.print(NOTES, highlight=False, soft_wrap=True)
    console.print(_sources(rows), highlight=False, soft_wrap=True)
    for backbone in BACKBONES:
        text = _like_for_like([row for row in rows if row.backbone == backbone])
        console.print(text, highlight=False, soft_wrap=True)
    console.print(_grids(grid_rows()))
    if json_file is not None:
        save_json(json_file, [row.as_dict() for row in rows])
        console.print(f'wrote {json_file}')
    if plot is not None:
        from step_ros.experiments.complexity import plot_scaling

        plot_scaling(plot)
        console.print(f'wrote {plot}')


def _table(backbone: str, rows: 'list[Row]') -> Table:
    from step_ros.experiments.complexity import THREE_VIEWS

    # Narrow enough for 80 columns: a figure that is cut short would be wrong.
    table = Table(title=f'{backbone}, 16 frames of 224 px', box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column('method', no_wrap=True)
    for name in ('tasks', 'params M', 'paper', 'full', 'paper*', 'paper', 'differs'):
        table.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        differs = ''
        if row.paper_gflops is not None:
            differs = f'{100 * (row.gflops / row.paper_gflops - 1):+.1f} %'
        if THREE_VIEWS in row.note:
            differs = '3 views'
        table.add_row(
            row.method,
            str(row.tasks),
            f'{row.params_m:.2f}',
            '' if row.paper_params_m is None else f'{row.paper_params_m:g}',
            f'{row.gflops_full:.1f}',
            f'{row.gflops:.1f}',
            '' if row.paper_gflops is None else f'{row.paper_gflops:g}',
            differs,
        )
    return table


def _grids(rows: 'list[GridRow]') -> Table:
    from step_ros.model.backbone import grid_text

    title = 'A STEP head on fewer tokens (token_grid), 1e9 multiply-adds, full'
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column('backbone', no_wrap=True)
    for name in ('token grid', 'tokens', 'head, one window', 'backbone, one frame'):
        table.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        table.add_row(
            row.backbone,
            grid_text(row.token_grid),
            str(row.tokens),
            f'{row.head_gflops:.3f}',
            f'{row.frame_gflops:.1f}',
        )
    return table


def _sources(rows: 'list[Row]') -> str:
    """Return the places of the papers' figures, one line for each."""
    by_note: dict[str, list[str]] = {}
    for row in rows:
        if row.note and row.method not in by_note.setdefault(row.note, []):
            by_note[row.note].append(row.method)
    lines = [f'  {note}: {", ".join(methods)}' for note, methods in by_note.items()]
    return '\n'.join(['Figures of the papers:', *lines])


def _like_for_like(rows: 'list[Row]') -> str:
    """Return a comparison for three tasks in one view each.

    The paper's factor of six compares three views of ST-Adapter with one view of STEP.
    """
    from step_ros.experiments.complexity import THREE_VIEWS

    three = {row.method: row for row in rows if row.tasks == 3}
    step = three.pop('step')
    adapter = next(row for row in rows if row.method == 'st-adapter' and row.tasks == 1)
    lines = [f'\n{step.backbone}, three tasks, one view, full count: STEP {step.gflops_full:.0f}']
    for name, row in three.items():
        ratio = row.gflops_full / step.gflops_full
        lines.append(f'  {name}: {row.gflops_full:.0f}, {ratio:.1f} times STEP')
        if row.paper_gflops and step.paper_gflops and THREE_VIEWS in row.note:
            lines.append(
                f'    (the paper: {row.paper_gflops:g} / {step.paper_gflops:g} = '
                f'{row.paper_gflops / step.paper_gflops:.1f}, but three views against one)'
            )
    lines.append(
        f'  (st-adapter, one task: three views of {adapter.gflops_full:.1f} are '
        f'{3 * adapter.gflops_full:.0f}; the paper prints {adapter.paper_gflops:g})'
    )
    return '\n'.join(lines)

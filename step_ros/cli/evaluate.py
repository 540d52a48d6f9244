# SPDX-License-Identifier: Apache-2.0
"""`step_ros evaluate`: scores a bundle on a dataset."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from step_ros.cli.common import open_console, print_text, report_errors, save_json, split_options
from step_ros.cli.outputs import output_file

COLUMNS = {
    'top1': 'top-1',
    'balanced': 'balanced',
    'symmetric_top1': 'nearly symmetric',
    'within_pair': 'within pair',
    'other_top1': 'others',
    'calibration_error': 'calibration error',
}


def evaluate(
    bundle: Annotated[str, typer.Argument(help='Bundle: a folder, or the name of a shipped one.')],
    dataset: Annotated[str, typer.Argument(help='Name of the dataset, see `step_ros data list`.')],
    root: Annotated[Path, typer.Argument(help='Folder of your copy.')],
    option: Annotated[
        list[str] | None, typer.Option(help='KEY=VALUE for its reader; repeatable.')
    ] = None,
    split: Annotated[str, typer.Option(help='train, val or test.')] = 'test',
    windows: Annotated[int, typer.Option(min=1, help='Windows of a clip to average.')] = 3,
    runtime: Annotated[
        str | None,
        typer.Option(
            help='Runtime of the encoder, see docs/runtimes.md. Default: torch in float32.'
        ),
    ] = None,
    cache: Annotated[Path, typer.Option(help='Folder of the token caches.')] = Path('runs/cache'),
    json_file: Annotated[
        Path | None,
        typer.Option('--json', callback=output_file, help='Write all scores to this file.'),
    ] = None,
) -> None:
    """Score a bundle on a dataset: frames in order, reversed and shuffled; by view and label."""
    from step_ros.encoders.base import choose_device
    from step_ros.encoders.factory import create_encoder
    from step_ros.model.bundle import load_bundle
    from step_ros.resources import find_bundle
    from step_ros.training.config import CacheRecipe
    from step_ros.training.distributed import Distributed
    from step_ros.training.evaluate import evaluate_bundle

    console = open_console()
    with report_errors(console):
        loaded = load_bundle(find_bundle(bundle))
        encoder = None
        if runtime is not None:
            encoder = create_encoder(loaded.model.backbone, runtime=runtime, bundle=loaded.path)
        found = evaluate_bundle(
            loaded,
            dataset,
            root,
            options=split_options('--option', option),
            split=split,
            windows=windows,
            cache=CacheRecipe(folder=cache),
            distributed=Distributed(device=choose_device('auto')),
            encoder=encoder,
        )
    title = f'{found["bundle"]} on {found["dataset"]}, {found["split"]}: {found["clips"]} clips'
    print_text(console, f'{title}, {found["left_out"]} left out')
    print_text(console, f'encoder: {found["encoder"]}')
    rows = {f'frames {order}': tasks for order, tasks in found['orders'].items()}
    rows |= {f'view {view}': tasks for view, tasks in found['views'].items()}
    for task in found['orders']['correct']:
        console.print(_summary(task, rows))
        console.print(_by_label(task, found['orders']['correct'][task]['labels']))
    if json_file is not None:
        save_json(json_file, found)
        print_text(console, f'wrote {json_file}')


def _summary(task: str, rows: dict[str, dict[str, Any]]) -> Table:
    """Return the scores of one task: a row for each order of the frames and each view."""
    table = Table(title=f'{task}: percent', box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column('')
    for title in COLUMNS.values():
        table.add_column(title, justify='right')
    for name, tasks in rows.items():
        if task in tasks:
            cells = [tasks[task].get(metric) for metric in COLUMNS]
            table.add_row(name, *('-' if cell is None else f'{100 * cell:.1f}' for cell in cells))
    return table


def _by_label(task: str, labels: dict[str, dict[str, Any]]) -> Table:
    """Return accuracy and most frequent confusion of each label, as in STEP Table III."""
    table = Table(title=f'{task}: by label', box=SIMPLE, padding=(0, 1, 0, 0))
    for title in ('label', 'clips', 'top-1', 'most often taken for', 'confusion'):
        table.add_column(
            title, justify='left' if title in ('label', 'most often taken for') else 'right'
        )
    for label, found in labels.items():
        table.add_row(
            Text(label),
            str(found['clips']),
            f'{100 * found["top1"]:.1f}',
            Text(found['confused_with'] or '-'),
            f'{100 * found["confusion"]:.1f}' if found['confused_with'] else '-',
        )
    return table

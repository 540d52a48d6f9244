"""`step_ros evaluate`: how good a bundle is on a dataset."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from step_ros.cli.common import said_in_words, split_options

COLUMNS = {
    'top1': 'top-1',
    'balanced': 'balanced',
    'symmetric_top1': 'nearly symmetric',
    'within_pair': 'within pair',
    'other_top1': 'others',
    'calibration_error': 'calibration error',
}


def evaluate(
    bundle: Annotated[str, typer.Argument(help="A bundle's folder or shipped name.")],
    dataset: Annotated[str, typer.Argument(help='A name of `step_ros data list`.')],
    root: Annotated[Path, typer.Argument(help='The folder of your copy.')],
    option: Annotated[
        list[str] | None, typer.Option(help='KEY=VALUE of its reader; repeatable.')
    ] = None,
    split: Annotated[str, typer.Option(help='train, val or test.')] = 'test',
    windows: Annotated[int, typer.Option(min=1, help='Windows of a clip that are averaged.')] = 3,
    runtime: Annotated[
        str | None,
        typer.Option(help='What runs the encoder, see docs/runtimes.md; else torch in float32.'),
    ] = None,
    cache: Annotated[Path, typer.Option(help='Folder of all token caches.')] = Path('runs/cache'),
    json_file: Annotated[
        Path | None, typer.Option('--json', help='Write everything to this file.')
    ] = None,
) -> None:
    """Score a bundle on a dataset: frames in order, reversed, shuffled; by view, by label."""
    from step_ros.encoders.base import choose_device
    from step_ros.encoders.factory import create_encoder
    from step_ros.model.bundle import load_bundle
    from step_ros.resources import find_bundle
    from step_ros.training.config import CacheRecipe
    from step_ros.training.distributed import Distributed
    from step_ros.training.evaluate import evaluate_bundle

    console = Console()
    with said_in_words(console):
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
            team=Distributed(device=choose_device('auto')),
            encoder=encoder,
        )
    title = f'{found["bundle"]} on {found["dataset"]}, {found["split"]}: {found["clips"]} clips'
    console.print(Text(f'{title}, {found["left_out"]} left out'), soft_wrap=True)
    console.print(Text(f'encoder: {found["encoder"]}'), soft_wrap=True)
    rows = {f'frames {order}': tasks for order, tasks in found['orders'].items()}
    rows |= {f'view {view}': tasks for view, tasks in found['views'].items()}
    for task in found['orders']['correct']:
        console.print(_summary(task, rows))
        console.print(_by_label(task, found['orders']['correct'][task]['labels']))
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(found, indent=2) + '\n', encoding='utf-8')
        console.print(Text(f'wrote {json_file}'), soft_wrap=True)


def _summary(task: str, rows: dict[str, dict[str, Any]]) -> Table:
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
    """Lay labels out as STEP Table III does: accuracy, and what each is most often taken for."""
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

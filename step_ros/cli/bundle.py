"""`step_ros bundle`: what can be made of a bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from step_ros.cli.common import said_in_words, split_options

if TYPE_CHECKING:
    from step_ros.encoders.exported import ExportedEncoder

app = typer.Typer(help='What can be made of a bundle.', no_args_is_help=True)


@app.callback()
def bundle() -> None:
    """What can be made of a bundle."""


@app.command()
def export(
    bundle: Annotated[str, typer.Argument(help="A bundle's folder or shipped name.")],
    export_format: Annotated[
        str, typer.Option('--format', help='For which runtime: openvino or onnx.')
    ] = 'openvino',
    output: Annotated[
        Path | None,
        typer.Option(help='Folder to write; without it one beside the bundle, exports/NAME.'),
    ] = None,
    int8: Annotated[
        bool, typer.Option('--int8', help='Quantise to int8 (openvino), and say what it costs.')
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help='Folder of videos of what the cameras will see, for int8. Default: the rendered '
            'tabletop, for bundles that know it.'
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help='Frames that int8 is calibrated on; else 300.')
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help='Where to measure what int8 costs: a name of `step_ros data list`.'),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="That dataset's folder.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help='KEY=VALUE of its reader; repeatable.')
    ] = None,
    clips: Annotated[
        int,
        typer.Option(
            min=0, help='Without --dataset: test clips of each action of the tabletop; 0: none.'
        ),
    ] = 10,
) -> None:
    """Export a bundle's encoder, and for ONNX its heads, for another runtime.

    An encoder in int8 is served by `runtime: openvino-int8`, or by the path of its folder.
    """
    from step_ros.encoders.exported import EXPORTS, export_name
    from step_ros.model.bundle import load_bundle
    from step_ros.resources import find_bundle
    from step_ros.training.export import (
        CALIBRATION_FRAMES,
        Calibration,
        export_bundle,
        knows_the_tabletop,
        measure_cost,
        measure_cost_on_tabletop,
    )

    if (dataset is None) != (root is None):
        raise typer.BadParameter('--dataset and --root go together')
    console = Console()
    with said_in_words(console):
        loaded = load_bundle(find_bundle(bundle))
        precision = 'int8' if int8 else 'float32'
        exported = export_bundle(
            loaded,
            output or loaded.path / EXPORTS / export_name(export_format, precision),
            runtime=export_format,
            calibration=Calibration(folder=calibration, frames=frames or CALIBRATION_FRAMES)
            if int8
            else None,
        )
        console.print(Text(f'wrote {exported.path}'), soft_wrap=True)
        if int8 and dataset is not None and root is not None:
            options = split_options('--option', option)
            exported = measure_cost(loaded, exported, dataset, root, options=options)
        elif int8 and clips and knows_the_tabletop(loaded):
            exported = measure_cost_on_tabletop(loaded, exported, clips=clips)
    if exported.spec.measured:
        console.print(_cost(exported))
    elif int8:
        console.print('what int8 costs was not measured: give --dataset and --root')


def _cost(exported: 'ExportedEncoder') -> Table:
    """Lay what was measured out: one row for each task and metric."""
    measured = exported.spec.measured
    title = f'{exported.variant} on {measured["clips"]} clips of {measured["dataset"]}'
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column('')
    for precision in measured['ms']:
        table.add_column(precision, justify='right')
    for task, metrics in measured['accuracy'].items():
        for metric, values in metrics.items():
            cells = (f'{100 * value:.1f} %' for value in values.values())
            table.add_row(f'{task}: {metric}', *cells)
    table.add_row('an image, by OpenVINO', *(f'{ms:.1f} ms' for ms in measured['ms'].values()))
    return table

# SPDX-License-Identifier: Apache-2.0
"""`step_ros bundle`: exports a bundle's encoder and heads for other runtimes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from step_ros.cli.common import open_console, print_text, report_errors, split_options
from step_ros.cli.outputs import output_bundle

if TYPE_CHECKING:
    from step_ros.encoders.exported import ExportedEncoder

app = typer.Typer(help='Export bundles for other runtimes.', no_args_is_help=True)


# With a callback, typer keeps `export` as a verb of its own although it is the only one.
@app.callback()
def bundle() -> None:
    """Export bundles for other runtimes."""


@app.command()
def export(
    bundle: Annotated[str, typer.Argument(help='Bundle: a folder, or the name of a shipped one.')],
    export_format: Annotated[
        str, typer.Option('--format', help='Runtime to export for: openvino or onnx.')
    ] = 'openvino',
    output: Annotated[
        Path | None,
        typer.Option(
            callback=output_bundle,
            help="Folder to write. Default: exports/NAME in the bundle's folder.",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option('--int8', help='Quantise to int8 (openvino only) and measure the cost.')
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help='Folder of videos like those of your cameras, to calibrate int8. Default: the '
            'rendered tabletop, for bundles that know it.'
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help='Number of frames to calibrate int8 on. Default: 300.'),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help='Dataset to measure the cost of int8 on, see `step_ros data list`.'),
    ] = None,
    root: Annotated[Path | None, typer.Option(help='Folder of that dataset.')] = None,
    option: Annotated[
        list[str] | None, typer.Option(help='KEY=VALUE for its reader; repeatable.')
    ] = None,
    clips: Annotated[
        int,
        typer.Option(
            min=0, help='Without --dataset: tabletop test clips of each action; 0: none.'
        ),
    ] = 10,
) -> None:
    """Export a bundle's encoder for another runtime; for ONNX, its heads as well.

    To run an int8 encoder, set the node's `runtime` to openvino-int8, or to the encoder's folder.
    """
    from step_ros.encoders.exported import EXPORTS, export_name
    from step_ros.model.bundle import load_bundle
    from step_ros.resources import find_bundle
    from step_ros.training.calibration import (
        CALIBRATION_FRAMES,
        Calibration,
        predicts_tabletop_tasks,
    )
    from step_ros.training.export import export_bundle, measure_cost, measure_cost_on_tabletop

    if (dataset is None) != (root is None):
        raise typer.BadParameter('--dataset and --root go together: give both, or neither')
    console = open_console()
    with report_errors(console):
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
        print_text(console, f'wrote {exported.path}')
        if int8 and dataset is not None and root is not None:
            options = split_options('--option', option)
            exported = measure_cost(loaded, exported, dataset, root, options=options)
        elif int8 and clips and predicts_tabletop_tasks(loaded):
            exported = measure_cost_on_tabletop(loaded, exported, clips=clips)
    if exported.spec.measured:
        console.print(_cost_table(exported))
    elif int8:
        console.print('the cost of int8 was not measured: give --dataset and --root')


def _cost_table(exported: 'ExportedEncoder') -> Table:
    """Return accuracy by task and metric, and time, for each precision."""
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
    table.add_row(
        'time for an image, OpenVINO', *(f'{ms:.1f} ms' for ms in measured['ms'].values())
    )
    return table

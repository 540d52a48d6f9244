"""`step_ros teach-curve`: how well a task is learned from how many examples, on the tabletop."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from step_ros.cli.failures import say


def teach_curve(
    bundle: Annotated[
        str, typer.Option(help='Bundle to teach: a folder or a shipped name.')
    ] = 'tabletop-tiny',
    output: Annotated[Path | None, typer.Option(help='Draw the curve into this image.')] = None,
    document: Annotated[
        Path | None, typer.Option(help='Put the table between the marks of this Markdown file.')
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option('--json', help='Write all figures to this file.')
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help='Random choices of the examples.')] = 5,
    test_clips: Annotated[int, typer.Option(min=1, help='Test clips of each label.')] = 15,
) -> None:
    """Measure accuracy against examples per label, on lessons that no shipped model knows."""
    from step_ros.model.bundle import load_bundle
    from step_ros.model.bundle_files import BundleError
    from step_ros.resources import find_bundle
    from step_ros.training.teach_curve import measure_curve
    from step_ros.training.teach_plot import curve_table, plot_curve, put_table

    console = Console()
    try:
        curve = measure_curve(load_bundle(find_bundle(bundle)), draws=draws, test_clips=test_clips)
        table = curve_table(curve)
        console.print(Text(table), soft_wrap=True)
        if output is not None:
            plot_curve(curve, output)
        if document is not None:
            put_table(document, table)
    except (BundleError, FileNotFoundError, ValueError) as error:
        say(console, error)
        raise typer.Exit(1) from error
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(curve.as_dict(), indent=2) + '\n', encoding='utf-8')

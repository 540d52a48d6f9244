# SPDX-License-Identifier: Apache-2.0
"""`step_ros teach` and `teach-curve`: a new task from a few examples, and how well that works."""

from pathlib import Path
from typing import Annotated

import typer

from step_ros.cli.common import open_console, print_error, print_text, save_json, split_options
from step_ros.cli.outputs import output_bundle, output_file


def teach(
    bundle: Annotated[
        str, typer.Argument(help='Bundle to start from: a folder, or the name of a shipped one.')
    ],
    examples: Annotated[
        Path, typer.Argument(help='Folder with the examples, as `step_ros record` writes it.')
    ],
    output: Annotated[
        Path,
        typer.Option(callback=output_bundle, help='Folder for the new bundle; it must not exist.'),
    ],
    task: Annotated[
        str,
        typer.Option(help='Task to learn: a column of annotations.csv. Default: the only one.'),
    ] = '',
    pair: Annotated[
        list[str] | None,
        typer.Option(help="Two counterparts, for example 'open lid=close lid'; repeatable."),
    ] = None,
    reverse_pairs: Annotated[
        bool,
        typer.Option(
            '--reverse-pairs', help='Also use each example, reversed, for its counterpart.'
        ),
    ] = False,
    dataset: Annotated[
        str, typer.Option(help='Dataset reader for the examples, see `step_ros data list`.')
    ] = 'csv',
    option: Annotated[
        list[str] | None, typer.Option(help='KEY=VALUE for that reader; repeatable.')
    ] = None,
    name: Annotated[str, typer.Option(help='Name of the new bundle.')] = '',
    json_file: Annotated[
        Path | None,
        typer.Option('--json', callback=output_file, help='Write the metrics to this file.'),
    ] = None,
) -> None:
    """Add a task of your own to a bundle, on this machine's CPU; its other tasks do not change.

    A stopped run continues when it is started again.
    """
    from step_ros.fewshot.examples import FewShotError, read_examples
    from step_ros.fewshot.teach import teach as teach_task
    from step_ros.io.errors import DatasetError
    from step_ros.model.bundle import BundleError, load_bundle
    from step_ros.resources import find_bundle

    console = open_console()
    try:
        found = read_examples(
            examples, task=task, dataset=dataset, options=_pairs('--option', option)
        )
        new_bundle = teach_task(
            load_bundle(find_bundle(bundle)),
            found,
            output,
            pairs=_pairs('--pair', pair),
            reverse_pairs=reverse_pairs,
            name=name,
        )
    except (BundleError, DatasetError, FewShotError, OSError, ValueError) as error:
        print_error(console, error)
        raise typer.Exit(1) from error
    metrics = new_bundle.spec.metrics['taught'][found.task]
    spec = next(entry for entry in new_bundle.spec.tasks if entry.name == found.task)
    for line in (
        f'{found.task}: {len(spec.labels)} labels from {sum(metrics["examples"].values())} '
        f'examples ({metrics["windows"]} windows)',
        f'temperature {spec.temperature}, fitted on {metrics["temperature_fitted_on"]}',
        *(
            f'{part.replace("_", "-")}: '
            + ', '.join(f'{key} {value}' for key, value in metrics[part].items())
            for part in ('cross_validation', 'val', 'test')
            if metrics.get(part)
        ),
        f'wrote {new_bundle.model_id} to {output}',
    ):
        print_text(console, line)
    if json_file is not None:
        save_json(json_file, metrics)


def teach_curve(
    bundle: Annotated[
        str, typer.Option(help='Bundle to start from: a folder, or the name of a shipped one.')
    ] = 'tabletop-tiny',
    output: Annotated[
        Path | None,
        typer.Option(callback=output_file, help='Draw the curve into this image file.'),
    ] = None,
    document: Annotated[
        Path | None,
        typer.Option(
            callback=output_file,
            help='Write the table between the marks of this Markdown file.',
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option('--json', callback=output_file, help='Write all figures to this file.'),
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, help='How often to draw the examples at random.')
    ] = 5,
    test_clips: Annotated[int, typer.Option(min=1, help='Test clips of each label.')] = 15,
) -> None:
    """Measure accuracy against the number of examples, on actions that no shipped bundle knows."""
    from step_ros.fewshot.learning_curve import curve_table, measure_curve, plot_curve, put_table
    from step_ros.model.bundle import BundleError, load_bundle
    from step_ros.resources import find_bundle

    console = open_console()
    try:
        curve = measure_curve(load_bundle(find_bundle(bundle)), draws=draws, test_clips=test_clips)
        table = curve_table(curve)
        print_text(console, table)
        if output is not None:
            plot_curve(curve, output)
        if document is not None:
            put_table(document, table)
    except (BundleError, OSError, ValueError) as error:
        print_error(console, error)
        raise typer.Exit(1) from error
    if json_file is not None:
        save_json(json_file, curve.as_dict())


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """Split values A=B of an option; B must not be empty."""
    return split_options(option, given, expected='A=B, each A once', empty=False)

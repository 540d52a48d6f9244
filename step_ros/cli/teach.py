"""`step_ros teach`: a new task, or new labels, from a handful of recorded examples."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from step_ros.cli.common import say, split_options


def teach(
    bundle: Annotated[
        str, typer.Argument(help='Bundle to start from: a folder or a shipped name.')
    ],
    examples: Annotated[
        Path, typer.Argument(help='Folder with the examples, as `step_ros record` makes it.')
    ],
    output: Annotated[Path, typer.Option(help='Folder of the new bundle; must not exist.')],
    task: Annotated[
        str, typer.Option(help='Task to learn: a column of annotations.csv; empty: the only one.')
    ] = '',
    pair: Annotated[
        list[str] | None,
        typer.Option(help="Nearly symmetric labels, as 'open lid=close lid'; repeatable."),
    ] = None,
    reverse_pairs: Annotated[
        bool,
        typer.Option(
            '--reverse-pairs', help='Take a reversed example as one of its counterpart, too.'
        ),
    ] = False,
    dataset: Annotated[
        str, typer.Option(help='How the examples are annotated, see `step_ros data list`.')
    ] = 'csv',
    option: Annotated[
        list[str] | None, typer.Option(help='KEY=VALUE of that reader; repeatable.')
    ] = None,
    name: Annotated[str, typer.Option(help='Name of the new bundle.')] = '',
    json_file: Annotated[
        Path | None, typer.Option('--json', help='Write the metrics to this file.')
    ] = None,
) -> None:
    """Teach a bundle a task of your own, on this machine's CPU; its other tasks stay as they are.

    A stopped run goes on where it was when it is started again.
    """
    from step_ros.fewshot.examples import FewShotError, read_examples
    from step_ros.fewshot.teach import teach as teach_task
    from step_ros.io.errors import DatasetError
    from step_ros.model.bundle import BundleError, load_bundle
    from step_ros.resources import find_bundle

    console = Console()
    try:
        found = read_examples(
            examples, task=task, dataset=dataset, options=_pairs('--option', option)
        )
        taught = teach_task(
            load_bundle(find_bundle(bundle)),
            found,
            output,
            pairs=_pairs('--pair', pair),
            reverse_pairs=reverse_pairs,
            name=name,
        )
    except (BundleError, DatasetError, FileNotFoundError, FewShotError, ValueError) as error:
        say(console, error)
        raise typer.Exit(1) from error
    metrics = taught.spec.metrics['taught'][found.task]
    spec = next(entry for entry in taught.spec.tasks if entry.name == found.task)
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
        f'wrote {taught.model_id} to {output}',
    ):
        console.print(Text(line), soft_wrap=True)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(metrics, indent=2) + '\n', encoding='utf-8')


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    return split_options(option, given, expected='A=B, each A once', empty=False)


# ---- `step_ros teach-curve`: how well a task is learned from how many examples, on the tabletop.


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
    from step_ros.fewshot.learning_curve import curve_table, measure_curve, plot_curve, put_table
    from step_ros.model.bundle import BundleError, load_bundle
    from step_ros.resources import find_bundle

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

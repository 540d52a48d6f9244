# SPDX-License-Identifier: Apache-2.0
"""`step_ros ablate`: runs the grids of ablation files and writes one report."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from step_ros.cli.common import expected_errors, open_console, print_error, print_text
from step_ros.cli.outputs import check_file, output_file, output_folder

if TYPE_CHECKING:
    from step_ros.experiments.run import AblationResult
    from step_ros.experiments.spec import AblationSpec

TIMING = 'timing.json'


def ablate(
    files: Annotated[list[Path], typer.Argument(help='Ablation files, see config/ablations/.')],
    output: Annotated[
        Path,
        typer.Option(
            callback=output_folder, help='Folder for all runs, report.md and report.html.'
        ),
    ],
    recipe: Annotated[
        Path | None,
        typer.Option(help='Training recipe (dataset, backbone, sampling) for files without one.'),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the dataset, in place of the files' own.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            callback=output_file,
            help='Write report.md to this file, and its pictures to images/ beside it.',
        ),
    ] = None,
) -> None:
    """Run grids of heads; report their scores beside the papers' figures and findings.

    Finished runs are not repeated, and a stopped run continues. Several devices share the work
    under torchrun, as with `step_ros train`.
    """
    from step_ros.encoders.base import choose_device
    from step_ros.experiments.report import write_report
    from step_ros.experiments.run import ablate as run_ablation
    from step_ros.reporting.html import html_report
    from step_ros.training.distributed import Distributed, close_distributed, init_distributed

    console = open_console()
    results: list[AblationResult] = []
    seconds: dict[str, float] = {}
    failure: Exception | None = None
    distributed = Distributed()
    try:
        for path in (report or output / 'report.md', output / 'report.html', output / TIMING):
            check_file(path)
        specs = _load(files, root, recipe, console)
        distributed = init_distributed(choose_device('auto'))
        for name, spec in specs.items():
            started = time.monotonic()
            results.append(run_ablation(spec, output / name, distributed=distributed))
            seconds[name] = round(time.monotonic() - started, 1)
    except expected_errors() as error:
        failure = error
        print_error(console, error)
    close_distributed()
    if results and distributed.is_main_process:
        # Even if one file failed, report the others.
        markdown = report or output / 'report.md'
        page = output / 'report.html'
        try:
            text = write_report(results, markdown, command=_command(files, recipe))
            output.mkdir(parents=True, exist_ok=True)
            page.write_text(html_report(text, markdown.parent), encoding='utf-8')
        except expected_errors() as error:
            failure = error
            print_error(console, error)
        else:
            print_text(console, f'wrote {markdown} and {page}')
        (output / TIMING).write_text(json.dumps(seconds, indent=2) + '\n', encoding='utf-8')
    if failure is not None:
        raise typer.Exit(1) from failure


def _load(
    files: list[Path], root: Path | None, recipe: Path | None, console: Console
) -> 'dict[str, AblationSpec]':
    """Return the ablations of all files by name: all are checked before the first one runs."""
    from step_ros.experiments.report import file_name
    from step_ros.experiments.spec import load_ablation
    from step_ros.experiments.tables import check_published

    specs: dict[str, AblationSpec] = {}
    for file, with_recipe in with_recipes(files, recipe, console):
        changes = None if root is None else {'root': str(root)}
        spec = load_ablation(file, changes, recipe=with_recipe)
        check_published(spec)
        name = file_name(spec.name)
        if name in specs:
            raise ValueError(
                f'{file}: another file has the name {spec.name!r}, too; choose another name'
            )
        specs[name] = spec
    if not specs:
        raise ValueError('no ablation to run: none of the files has its dataset here')
    return specs


def with_recipes(
    files: list[Path], recipe: Path | None, console: Console
) -> Iterator[tuple[Path, Path | None]]:
    """Yield each file with the recipe to run it with; None if the file has its own.

    Without `recipe`, a file that has none is run once for each recipe of the papers whose dataset
    is on this machine.
    """
    from step_ros.experiments.spec import data_root, has_recipe, papers_recipes

    for file in files:
        if recipe is not None or has_recipe(file):
            yield file, recipe
            continue
        recipes = papers_recipes(file)
        present = [each for each in recipes if data_root(each).is_dir()]
        yield from ((file, each) for each in present)
        if not present:
            roots = ', '.join(str(data_root(each)) for each in recipes)
            text = f'{file}: left out, none of its datasets is here; looked for {roots}'
            print_text(console, f'{text} (or name a recipe: --recipe)')


def _command(files: list[Path], recipe: Path | None) -> str:
    """Return the command for the report, without the folders of this machine."""
    names = [file.name if file.is_absolute() else str(file) for file in files]
    if recipe is not None:
        names += ['--recipe', recipe.name if recipe.is_absolute() else str(recipe)]
    return f'step_ros ablate {" ".join(names)} --output FOLDER'

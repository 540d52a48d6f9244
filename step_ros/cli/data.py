# SPDX-License-Identifier: Apache-2.0
"""`step_ros data` and `step_ros record-demo`: datasets to read, to check, and to make.

`data list` names the datasets, `data check` inspects a copy on disk, `data render` writes the
synthetic tabletop as videos, and `record-demo` writes it as annotated bags.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from step_ros.cli.common import (
    open_console,
    print_error,
    print_text,
    report_errors,
    save_json,
    split_options,
)
from step_ros.cli.outputs import output_file, output_folder

if TYPE_CHECKING:
    from step_ros.datasets.check import Check


app = typer.Typer(
    help='List and check datasets, or render the synthetic tabletop.', no_args_is_help=True
)

SPLITS = ('train', 'val', 'test')
# Problems of one kind that are printed; --json has them all.
EXAMPLES = 3


@app.command('list')
def list_datasets() -> None:
    """List the datasets that can be read, with their tasks, classes and options."""
    from step_ros.datasets.registry import READERS
    from step_ros.datasets.schema import load_dataset_config

    console = open_console()
    for name, reader in READERS.items():
        console.print(Text(name, style='bold'), soft_wrap=True)
        config = load_dataset_config(name) if reader.has_config else None
        if config is None:
            print_text(console, f'  {reader.about}')
        else:
            print_text(console, f'  {config.title}; {config.source}')
            for task in config.tasks:
                print_text(
                    console,
                    f'  task {task.name}: {task.classes} classes, {len(task.counterparts)} '
                    f'nearly symmetric, {len(task.nonsymmetric)} others',
                )
        for option in reader.options:
            choices = ', '.join(option.choices(config))
            among = f' [{choices}]' if choices else ''
            print_text(console, f'  --option {option.name}={option.default}: {option.help}{among}')


@app.command('render')
def render(
    root: Annotated[Path, typer.Argument(callback=output_folder, help='Folder to write.')],
    train: Annotated[int, typer.Option(min=1, help='Training clips of each action.')] = 100,
    val: Annotated[int, typer.Option(min=1, help='Validation clips of each action.')] = 10,
    test: Annotated[int, typer.Option(min=1, help='Test clips of each action.')] = 30,
    width: Annotated[int, typer.Option(min=16, help='Width in pixels, even.')] = 160,
    height: Annotated[int, typer.Option(min=16, help='Height in pixels, even.')] = 120,
    rate: Annotated[float, typer.Option(min=1, help='Frames per second.')] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help='Seed of the random scenes.')] = 0,
    workers: Annotated[int, typer.Option(min=1, help='Number of processes.')] = 2,
) -> None:
    """Write the synthetic tabletop as a dataset of videos; a stopped run continues."""
    from step_ros.io.errors import DatasetError
    from step_ros.tabletop.dataset import Rendering, render_dataset

    console = open_console()
    rendering = Rendering(
        clips={'train': train, 'val': val, 'test': test},
        size=(width, height),
        rate=rate,
        seed=seed,
    )

    def progress(videos: Iterable[Path], total: int) -> Iterable[Path]:
        return track(videos, 'rendering videos', total=total, console=console)

    try:
        render_dataset(root, rendering, workers=workers, progress=progress)
    except DatasetError as error:
        print_error(console, error)
        raise typer.Exit(1) from error
    print_text(console, f'wrote the tabletop to {root}')


@app.command('check')
def check(
    dataset: Annotated[str, typer.Argument(help='Name of the dataset, see `step_ros data list`.')],
    root: Annotated[Path, typer.Argument(help='Folder of your copy.')],
    option: Annotated[
        list[str] | None,
        typer.Option(help='KEY=VALUE for the reader, see `step_ros data list`; repeatable.'),
    ] = None,
    decode: Annotated[bool, typer.Option('--decode', help='Also open every video.')] = False,
    json_file: Annotated[
        Path | None,
        typer.Option('--json', callback=output_file, help='Write all findings to this file.'),
    ] = None,
) -> None:
    """Count clips; report missing, unreadable and mislabelled ones, and exit with 1 if any."""
    from step_ros.datasets.check import check_dataset
    from step_ros.datasets.registry import read_dataset
    from step_ros.io.errors import DatasetError

    console = open_console()

    def progress(videos: Sequence[Path]) -> Iterable[Path]:
        return track(videos, 'opening videos', console=console) if videos else videos

    try:
        read = read_dataset(dataset, root, **split_options('--option', option))
    except DatasetError as error:
        print_error(console, error)
        raise typer.Exit(1) from error
    found = check_dataset(read, decode=decode, progress=progress)
    _report(console, found)
    if json_file is not None:
        save_json(json_file, found.as_dict())
        print_text(console, f'wrote {json_file}')
    if not found.clean:
        raise typer.Exit(1)


def _report(console: Console, found: 'Check') -> None:
    """Print the counts of clips, and the problems by kind."""
    config = found.dataset.config
    chosen = ', '.join(f'{key}={value}' for key, value in found.dataset.options.items() if value)
    print_text(console, f'{config.title} ({chosen})')
    for task, labels in found.counts.items():
        totals: Counter[tuple[str, str]] = sum(labels.values(), Counter())
        console.print(_table(f'{task}: clips by split', labels, totals, 0))
        if len({view for _, view in totals}) > 1:
            console.print(_table(f'{task}: clips by view', labels, totals, 1))
    published = f' of {config.clips} published' if config.clips else ''
    print_text(console, f'{len(found.dataset.records)} clips{published}')
    for reason, entries in found.left_out.items():
        # Images are not always left out: some are sorted, as the reason says.
        print_text(
            console, f'{"" if reason.startswith("images ") else "left out, "}{reason}: {entries}'
        )
    for name, classes in found.without_clips.items():
        print_text(console, f'{name}: {len(classes)} classes without clips: {", ".join(classes)}')
    for kind, problems in found.by_kind().items():
        console.print(Text(f'{kind}: {len(problems)}', style='red'), soft_wrap=True)
        shown = len(problems) if kind == 'undecodable video' else EXAMPLES
        for problem in problems[:shown]:
            print_text(console, f'  {problem}')
        if len(problems) > shown:
            print_text(console, f'  and {len(problems) - shown} more (--json FILE lists all)')
    if found.decoded:
        bad = len(found.undecodable_videos)
        print_text(console, f'{found.decoded} videos opened, {bad} cannot be decoded')
    print_text(console, 'clean' if found.clean else 'not clean: something is missing or wrong')


def _table(
    title: str,
    labels: Mapping[str, Counter[tuple[str, str]]],
    totals: Counter[tuple[str, str]],
    by: int,
) -> Table:
    """Return a table of clips by class and split, or by class and view.

    Args:
        title: Title of the table.
        labels: Clips of each class by (split, view).
        totals: Clips of all classes by (split, view).
        by: Index of the columns in (split, view): 0 or 1.
    """
    found = {key[by] for key in totals}
    columns = SPLITS if by == 0 else sorted(found)
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0), show_footer=True)
    table.add_column('class', footer='all', overflow='fold')
    for name in columns:
        table.add_column(name, footer=str(_sum(totals, by, name)), justify='right')
    for label, parts in labels.items():
        cells = [_sum(parts, by, name) for name in columns]
        table.add_row(
            Text(label, style='' if any(cells) else 'red'), *(str(cell or '-') for cell in cells)
        )
    return table


def _sum(parts: Counter[tuple[str, str]], by: int, name: str) -> int:
    return sum(clips for key, clips in parts.items() if key[by] == name)


def record_demo(
    output: Annotated[
        Path,
        typer.Argument(
            callback=output_folder,
            help='Folder for the bags; they go to train/ and test/ in it.',
        ),
    ],
    kind: Annotated[
        Literal['mcap', 'sqlite3'], typer.Option('--format', help='Storage of the bags.')
    ] = 'mcap',
    seconds: Annotated[
        float, typer.Option(min=0.1, help='Length of each bag; the last action is completed.')
    ] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help='Number of the first scene of each split.')] = 0,
    train: Annotated[int, typer.Option(min=0, help='Number of bags of training scenes.')] = 1,
    test: Annotated[int, typer.Option(min=0, help='Number of bags of test scenes.')] = 1,
    view: Annotated[
        list[str] | None, typer.Option(help='front, side or top; repeatable. Default: front.')
    ] = None,
    compressed: Annotated[
        bool, typer.Option('--compressed', help='Write JPEG images, not raw ones.')
    ] = False,
    width: Annotated[int, typer.Option(min=2, help='Image width in pixels.')] = 320,
    height: Annotated[int, typer.Option(min=2, help='Image height in pixels.')] = 240,
    rate: Annotated[float, typer.Option(min=1, help='Images per second.')] = 15.0,
) -> None:
    """Write annotated bags of the tabletop, for tutorials and tests; a seed gives the same bags.

    Images of one view are on /camera/image_raw, those of several on /front/image_raw and so on.
    The true labels are on /camera/truth or on /truth, as step_ros/ActionEvent.
    """
    from step_ros.reporting.progress import track
    from step_ros.tabletop.bags import BagCameras, record_tabletop, scene_names

    console = open_console()
    with report_errors(console):
        camera = BagCameras(
            views=tuple(view or ('front',)),
            width=width,
            height=height,
            rate=rate,
            compressed=compressed,
        )
        scenes = [
            (split, output / split / name, number)
            for split, count in (('train', train), ('test', test))
            for name, number in scene_names(count, seed)
        ]
        if taken := [str(path) for _, path, _ in scenes if path.exists()]:
            raise ValueError(f'{taken[0]} exists; choose another folder')
        for split, path, number in track(scenes, 'film the tabletop'):
            lasts = record_tabletop(
                path, seed=number, split=split, seconds=seconds, storage=kind, camera=camera
            )
            print_text(console, f'wrote {path}: {lasts:.1f} s')

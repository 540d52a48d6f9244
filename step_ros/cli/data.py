"""`step_ros data`: which datasets can be read, and what a copy on disk holds."""

import json
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

from step_ros.cli.common import said_in_words, say, split_options

if TYPE_CHECKING:
    from step_ros.datasets.check import Check


app = typer.Typer(help='Look at datasets; nothing is changed.', no_args_is_help=True)

PARTS = ('train', 'val', 'test')

EXAMPLES = 3


@app.command('list')
def list_datasets() -> None:
    """Name the datasets that can be read, with tasks, classes and options."""
    from step_ros.datasets.registry import READERS
    from step_ros.datasets.schema import load_dataset_config

    console = Console()
    for name, reader in READERS.items():
        console.print(Text(name, style='bold'), soft_wrap=True)
        config = load_dataset_config(name) if reader.has_config else None
        if config is None:
            _say(console, f'  {reader.about}')
        else:
            _say(console, f'  {config.title}; {config.source}')
            for task in config.tasks:
                _say(
                    console,
                    f'  task {task.name}: {task.classes} classes, {len(task.counterparts)} '
                    f'nearly symmetric, {len(task.nonsymmetric)} others',
                )
        for option in reader.options:
            choices = ', '.join(option.choices(config))
            among = f' [{choices}]' if choices else ''
            _say(console, f'  --option {option.name}={option.default}: {option.help}{among}')


@app.command('render')
def render(
    root: Annotated[Path, typer.Argument(help='The folder to fill.')],
    train: Annotated[int, typer.Option(min=1, help='Training clips of each action.')] = 100,
    val: Annotated[int, typer.Option(min=1, help='Validation clips of each action.')] = 10,
    test: Annotated[int, typer.Option(min=1, help='Test clips of each action.')] = 30,
    width: Annotated[int, typer.Option(min=16, help='Pixels, even.')] = 160,
    height: Annotated[int, typer.Option(min=16, help='Pixels, even.')] = 120,
    rate: Annotated[float, typer.Option(min=1, help='Frames per second.')] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help='Another seed, other scenes.')] = 0,
    workers: Annotated[int, typer.Option(min=1, help='Processes.')] = 2,
) -> None:
    """Write the synthetic tabletop as a dataset of videos; a stopped run goes on."""
    from step_ros.io.errors import DatasetError
    from step_ros.tabletop.dataset import Rendering, render_dataset

    console = Console()
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
        say(console, error)
        raise typer.Exit(1) from error
    _say(console, f'wrote the tabletop to {root}')


@app.command('check')
def check(
    dataset: Annotated[str, typer.Argument(help='Its name, see `step_ros data list`.')],
    root: Annotated[Path, typer.Argument(help='The folder of your copy.')],
    option: Annotated[
        list[str] | None, typer.Option(help='KEY=VALUE, see `step_ros data list`; repeatable.')
    ] = None,
    decode: Annotated[bool, typer.Option('--decode', help='Open every video as well.')] = False,
    json_file: Annotated[
        Path | None, typer.Option('--json', help='Write everything to this file.')
    ] = None,
) -> None:
    """Report what is there, missing, unreadable or mislabelled; exit with 1 if anything is."""
    from step_ros.datasets.check import check_dataset
    from step_ros.datasets.registry import read_dataset
    from step_ros.io.errors import DatasetError

    console = Console()

    def progress(videos: Sequence[Path]) -> Iterable[Path]:
        return track(videos, 'opening videos', console=console) if videos else videos

    try:
        read = read_dataset(dataset, root, **split_options('--option', option))
    except DatasetError as error:
        say(console, error)
        raise typer.Exit(1) from error
    found = check_dataset(read, decode=decode, progress=progress)
    _report(console, found)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(found.as_dict(), indent=2) + '\n', encoding='utf-8')
        _say(console, f'wrote {json_file}')
    if not found.clean:
        raise typer.Exit(1)


def _report(console: Console, found: 'Check') -> None:
    config = found.dataset.config
    chosen = ', '.join(f'{key}={value}' for key, value in found.dataset.options.items() if value)
    _say(console, f'{config.title} ({chosen})')
    for task, labels in found.counts.items():
        totals: Counter[tuple[str, str]] = sum(labels.values(), Counter())
        console.print(_table(f'{task}: clips by split', labels, totals, 0))
        if len({view for _, view in totals}) > 1:
            console.print(_table(f'{task}: clips by view', labels, totals, 1))
    published = f' of {config.clips} published' if config.clips else ''
    _say(console, f'{len(found.dataset.records)} clips{published}')
    for reason, entries in found.dataset.left_out.items():
        _say(console, f'left out, {reason}: {entries}')
    for name, lacking in found.without_clips.items():
        _say(console, f'{name}: {len(lacking)} classes without clips: {", ".join(lacking)}')
    for kind, problems in found.by_kind().items():
        console.print(Text(f'{kind}: {len(problems)}', style='red'), soft_wrap=True)
        shown = len(problems) if kind == 'undecodable video' else EXAMPLES
        for problem in problems[:shown]:
            _say(console, f'  {problem}')
        if len(problems) > shown:
            _say(console, f'  and {len(problems) - shown} more (--json FILE lists all)')
    if found.decoded:
        bad = len(found.undecodable_videos)
        _say(console, f'{found.decoded} videos opened, {bad} cannot be decoded')
    _say(console, 'clean' if found.clean else 'not clean: something is missing or wrong')


def _table(
    title: str,
    labels: Mapping[str, Counter[tuple[str, str]]],
    totals: Counter[tuple[str, str]],
    by: int,
) -> Table:
    """Tabulate clips by label and split (`by` 0) or view (`by` 1)."""
    found = {key[by] for key in totals}
    columns = PARTS if by == 0 else sorted(found)
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


def _say(console: Console, text: str) -> None:
    # As text: file names and labels may hold brackets, and a path cut short is of no use.
    console.print(Text(text), soft_wrap=True)


# ---- `step_ros record-demo`: annotated bags of the synthetic tabletop.


def record_demo(
    output: Annotated[Path, typer.Argument(help='Folder for the bags: train/ and test/ in it.')],
    kind: Annotated[
        Literal['mcap', 'sqlite3'], typer.Option('--format', help='Storage of the bags.')
    ] = 'mcap',
    seconds: Annotated[
        float, typer.Option(min=0.1, help='Length of each bag; the last action is filmed whole.')
    ] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help='First scene of each split.')] = 0,
    train: Annotated[int, typer.Option(min=0, help='Bags of scenes for training.')] = 1,
    test: Annotated[int, typer.Option(min=0, help='Bags of scenes kept apart.')] = 1,
    view: Annotated[
        list[str] | None, typer.Option(help='front, side or top; repeatable. Without it front.')
    ] = None,
    compressed: Annotated[
        bool, typer.Option('--compressed', help='JPEG instead of raw images.')
    ] = False,
    width: Annotated[int, typer.Option(min=2, help='Image width in pixels.')] = 320,
    height: Annotated[int, typer.Option(min=2, help='Image height in pixels.')] = 240,
    rate: Annotated[float, typer.Option(min=1, help='Images per second.')] = 15.0,
) -> None:
    """Write annotated bags of the tabletop, for tutorials and tests; a seed gives the same bags.

    One view is the topic /camera/image_raw, several are /front/image_raw and so on; what happens
    is on /camera/truth or /truth as step_ros/ActionEvent.
    """
    from step_ros.reporting.progress import track
    from step_ros.tabletop.bags import DemoCamera, record_tabletop, scene_names

    console = Console()
    with said_in_words(console):
        camera = DemoCamera(
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
            console.print(Text(f'wrote {path}: {lasts:.1f} s'), soft_wrap=True)

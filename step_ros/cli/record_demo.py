"""`step_ros record-demo`: annotated bags of the synthetic tabletop."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from step_ros.cli.failures import said_in_words


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
    from step_ros.data.record_tabletop import DemoCamera, record_tabletop, scene_names
    from step_ros.training.progress import track

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

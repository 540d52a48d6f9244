"""Options that several benchmarks take, and how they fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from step_ros.cli.failures import say

JsonFile = Annotated[
    Path | None, typer.Option('--json', help='Write machine, configuration and figures here.')
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Processor threads of torch; else torch's own choice.")
]
BundleName = Annotated[str, typer.Option(help='Bundle: a folder, or the name of a shipped one.')]
Device = Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')]
Logs = Annotated[Path, typer.Option(help="Folder for the processes' logs.")]
Width = Annotated[int, typer.Option(min=1, help='Width of the images in pixels.')]
Height = Annotated[int, typer.Option(min=1, help='Height of the images in pixels.')]

SHIPPED = 'tabletop-tiny'
LOGS = Path('demo_output/bench')


@contextmanager
def said(console: Console, *errors: type[Exception]) -> Iterator[None]:
    """Say what a user can mend and exit with 1: bad values and bundles, and these errors.

    Raises:
        Exit: There was one.
    """
    from step_ros.model.bundle_files import BundleError
    from step_ros.model.weights import WeightsError

    expected: tuple[type[Exception], ...] = (
        *(BundleError, FileNotFoundError, ValueError, WeightsError),
        *errors,
    )
    try:
        yield
    except expected as error:
        say(console, error)
        raise typer.Exit(1) from error

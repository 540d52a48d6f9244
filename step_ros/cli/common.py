"""Failures that a user can mend: said in words, without a traceback."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text


def expected_errors() -> tuple[type[Exception], ...]:
    """Return what may go wrong in training and evaluation; imported only when it is needed."""
    from step_ros.encoders.base import EncoderError
    from step_ros.io.errors import DatasetError
    from step_ros.io.video import VideoError
    from step_ros.model.bundle import BundleError
    from step_ros.model.weights import WeightsError
    from step_ros.training.checkpoint import CheckpointError
    from step_ros.training.feature_cache.spec import CacheError
    from step_ros.training.fit import FitError

    return (
        BundleError,
        CacheError,
        CheckpointError,
        DatasetError,
        EncoderError,
        FileNotFoundError,
        FitError,
        ValueError,
        VideoError,
        WeightsError,
    )


def say(console: Console, error: Exception) -> None:
    """Print an error, in red and whole: a path cut short is of no use."""
    console.print(Text(str(error), style='red'), soft_wrap=True)


@contextmanager
def said_in_words(console: Console, *more: type[Exception]) -> Iterator[None]:
    """Say an expected error and exit with 1.

    Args:
        console: Where to say it.
        more: Errors that are expected here beside those of training and evaluation.

    Raises:
        Exit: There was one.
    """
    try:
        yield
    except (*expected_errors(), *more) as error:
        say(console, error)
        raise typer.Exit(1) from error


# ---- Options that several verbs take.


def split_options(
    option: str,
    given: list[str] | None,
    *,
    expected: str = 'KEY=VALUE, each key once',
    empty: bool = True,
) -> dict[str, str]:
    """Take KEY=VALUE apart.

    Args:
        option: Its name, for the reader of an error.
        given: What was given for it.
        expected: What an error says that it takes.
        empty: Whether a value may be empty.

    Raises:
        BadParameter: One is something else, or a key stands there twice.
    """
    found: dict[str, str] = {}
    for text in given or ():
        key, separator, value = (part.strip() for part in text.partition('='))
        if not separator or not key or not (value or empty) or key in found:
            raise typer.BadParameter(f'{option} {text}: expected {expected}')
        found[key] = value
    return found


def grid_of(option: str, text: str) -> tuple[int, int]:
    """Read a grid of tokens, ROWSxCOLUMNS.

    Raises:
        BadParameter: It is something else.
    """
    found = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', text)
    if found is None:
        raise typer.BadParameter(f'{option} {text}: expected ROWSxCOLUMNS, for example 8x8')
    return int(found[1]), int(found[2])


# ---- Verbs that run ROS 2 nodes of their own: apart from other programs, and only where ROS is.


def isolate() -> str:
    """Keep to this machine, and apart from other ROS 2 programs unless a domain was chosen.

    From then on SIGTERM ends the verb in order, as Ctrl-C does: its nodes are in sessions of their
    own and would stay.

    Returns:
        The domain.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    return os.environ.setdefault('ROS_DOMAIN_ID', str(50 + os.getpid() % 50))


@contextmanager
def ros_imported(console: Console, what: str) -> Iterator[None]:
    """Import what knows ROS inside this; say in words where there is none.

    Args:
        console: Where to say it.
        what: Who needs ROS.

    Raises:
        Exit: There is no ROS 2.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        console.print(f'[red]{what} runs on ROS 2, and {error.name} is not here; see README.md')
        raise typer.Exit(1) from error


# ---- Options that several benchmarks take.

JsonFile = Annotated[
    Path | None, typer.Option('--json', help='Write machine, configuration and figures here.')
]

Threads = Annotated[
    int | None, typer.Option(min=1, help="Processor threads of torch; else torch's own choice.")
]

BundleName = Annotated[str, typer.Option(help='Bundle: a folder, or the name of a shipped one.')]

Device = Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')]

Runtime = Annotated[str, typer.Option(help="The encoder's: auto, torch, openvino or onnx.")]

Logs = Annotated[Path, typer.Option(help="Folder for the processes' logs.")]

Width = Annotated[int, typer.Option(min=1, help='Width of the images in pixels.')]

Height = Annotated[int, typer.Option(min=1, help='Height of the images in pixels.')]

SHIPPED = 'tabletop-tiny'

LOGS = Path('demo_output/bench')

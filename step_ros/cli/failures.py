"""Failures that a user can mend: said in words, without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text


def expected_errors() -> tuple[type[Exception], ...]:
    """Return what may go wrong in training and evaluation; imported only when it is needed."""
    from step_ros.data.video import VideoError
    from step_ros.io.errors import DatasetError
    from step_ros.model.bundle_files import BundleError
    from step_ros.model.weights import WeightsError
    from step_ros.stream.batches import EncoderError
    from step_ros.training.cache_spec import CacheError
    from step_ros.training.checkpoint import CheckpointError
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

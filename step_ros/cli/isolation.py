"""Verbs that run ROS 2 nodes of their own: apart from other programs, and only where ROS is."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console


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

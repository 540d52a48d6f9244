"""`step_ros watch`: what a running perception node says, in the terminal."""

import os
import signal
import time
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from step_ros.cli.failures import say
from step_ros.cli.isolation import ros_imported
from step_ros.cli.watch_table import (
    event_line,
    hypothesis_line,
    printable,
    shown_tasks,
    watch_view,
)

if TYPE_CHECKING:
    from step_ros.msg import ActionHypothesis
    from step_ros.ros.watcher import Source, Watcher

REFRESH_SECONDS = 0.1
# Who publishes is not known at once.
DISCOVERY_SECONDS = 1.5
# Silence this long is spoken of, where nothing is drawn.
SILENCE_SECONDS = 3.0


class WatchError(RuntimeError):
    """There is nothing to watch, and waiting does not help."""


def watch(
    node: Annotated[
        str, typer.Option(help='Name of the node, or its topic; not needed when there is one.')
    ] = '',
    task: Annotated[
        list[str] | None, typer.Option(help='Show this task alone; repeatable.')
    ] = None,
    once: Annotated[bool, typer.Option('--once', help='Print one hypothesis and end.')] = False,
    plain: Annotated[
        bool, typer.Option('--plain', help='A line for each hypothesis and event, as in a pipe.')
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0, help='Give up after so many seconds without one; 0: never.')
    ] = 0.0,
) -> None:
    """Watch a running perception node: hypotheses, events, rates, diagnostics. Ctrl-C ends it."""
    console = Console()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with ros_imported(console, 'step_ros watch'):
            from step_ros.ros.watcher import Watcher
        watcher = Watcher()
        try:
            patience = _Patience(timeout)
            source = _find(watcher, node, patience)
            watcher.listen(source)
            if once or plain or not console.is_terminal:
                _print_lines(console, watcher, task or [], patience, once=once)
            else:
                _show(console, watcher, source, task or [], patience)
        finally:
            watcher.close()
    except WatchError as error:
        say(console, error)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        pass  # the way to end it


class _Patience:
    """How long nothing may come.

    Args:
        timeout: Seconds; 0 for ever.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._since = time.monotonic()

    @property
    def silent(self) -> float:
        """Seconds since something came."""
        return time.monotonic() - self._since

    def renew(self) -> None:
        """Take note that something came."""
        self._since = time.monotonic()

    def wait(self, why: str) -> None:
        """Wait a moment.

        Raises:
            WatchError: Nothing came for too long.
        """
        if self._timeout and self.silent > self._timeout:
            raise WatchError(f'nothing came for {self._timeout:g} s: {why}')
        time.sleep(REFRESH_SECONDS)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _find(watcher: 'Watcher', node: str, patience: _Patience) -> 'Source':
    """Wait until there is somebody to watch.

    Raises:
        WatchError: It is not clear whom, or nobody comes.
    """
    from step_ros.ros.watcher import choose_source

    told = False
    while True:
        found = watcher.find()
        source, why = choose_source(found, node)
        # One that is named is there as soon as it is seen; others may be seen a moment later.
        settled = patience.silent > DISCOVERY_SECONDS
        if source is not None and (node or settled):
            return source
        if settled and found and not node:
            raise WatchError(why)
        if patience.silent > SILENCE_SECONDS and not told:
            domain = os.environ.get('ROS_DOMAIN_ID', '0')
            _remark(f'{why} (ROS_DOMAIN_ID={domain}; waiting)')
            told = True
        patience.wait(why)


def _print_lines(
    console: Console, watcher: 'Watcher', tasks: list[str], patience: _Patience, *, once: bool
) -> None:
    from step_ros.msg import ActionEvent

    told = ''
    while True:
        for message in watcher.take():
            patience.renew()
            told = ''
            if isinstance(message, ActionEvent):
                if not once and (not tasks or message.task in tasks):
                    _say(console, event_line(message))
                continue
            _check_tasks(message, tasks)
            _say(console, hypothesis_line(message, tasks))
            if once:
                return
        why = watcher.silence() or 'the first window fills, or no image comes'
        if patience.silent > SILENCE_SECONDS and why != told:
            _remark(f'nothing comes: {why}')
            told = why
        patience.wait(why)


def _show(
    console: Console,
    watcher: 'Watcher',
    source: 'Source',
    tasks: list[str],
    patience: _Patience,
) -> None:
    from step_ros.msg import ActionEvent

    with Live(console=console, auto_refresh=False) as live:
        while True:
            for message in watcher.take():
                patience.renew()
                if not isinstance(message, ActionEvent):
                    _check_tasks(message, tasks)
            trouble = watcher.silence()
            view = watch_view(
                watcher.cameras(),
                watcher.diagnostics(),
                title=f'{source.node} on {source.topic}',
                tasks=tasks,
                trouble=trouble,
            )
            live.update(view, refresh=True)
            patience.wait(trouble or 'no hypothesis')


def _check_tasks(message: 'ActionHypothesis', tasks: list[str]) -> None:
    if tasks and not shown_tasks(message, tasks):
        known = ', '.join(task.task for task in message.tasks)
        raise WatchError(f'no task {", ".join(tasks)}; this node tells {known}')


def _say(console: Console, text: str) -> None:
    # As text: labels may hold brackets.
    console.print(Text(printable(text)), soft_wrap=True)


def _remark(text: str) -> None:
    """Say what is no part of the output."""
    _say(Console(stderr=True), text)

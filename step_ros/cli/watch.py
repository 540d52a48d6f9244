"""`step_ros watch`: what a running perception node says, in the terminal."""

import os
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from step_ros.cli.common import ros_imported, say

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticStatus

    from step_ros.msg import ActionEvent, ActionHypothesis, TaskHypothesis
    from step_ros.ros.clients.watcher import CameraView, Source, Watcher


# ---- What a perception node says, for a terminal: as tables, or as lines.

_BAR_WIDTH = 16

_LEVEL_STYLES = {'ok': 'green', 'warning': 'yellow', 'error': 'red', 'stale': 'red'}


def watch_view(
    cameras: Mapping[str, 'CameraView'],
    diagnostics: Sequence['DiagnosticStatus'],
    *,
    title: str,
    tasks: Collection[str] = (),
    trouble: str = '',
) -> RenderableType:
    """Draw all that is known of a node.

    Args:
        cameras: What was said of each camera.
        diagnostics: The node's statuses.
        title: Who is watched.
        tasks: The tasks that are shown; none for all.
        trouble: Why nothing may come; empty for no reason.
    """
    parts: list[RenderableType] = [Text(title, style='bold')]
    parts += [_camera_table(name, state, tasks) for name, state in cameras.items()]
    if trouble:
        parts.append(Text(trouble, style='yellow'))
    elif not cameras:
        parts.append(Text('nothing yet: the first window fills, or no image comes', style='dim'))
    parts += [_status_line(status) for status in diagnostics]
    return Group(*parts)


def _camera_table(name: str, state: 'CameraView', tasks: Collection[str]) -> Table:
    message = state.newest
    heading = Text(name, style='bold cyan')
    if message is not None:
        latency = message.latency.sec * 1e3 + message.latency.nanosec / 1e6
        heading.append(
            f'   {stamp_text(message)} s   {state.rate:.1f} hypotheses/s   '
            f'latency {latency:.0f} ms   {message.model_id}',
            style='not bold default',
        )
    table = Table(title=heading, title_justify='left', title_style='')
    table.add_column('task')
    table.add_column('label', no_wrap=True)
    table.add_column('score', justify='right')
    table.add_column('', width=_BAR_WIDTH)
    table.add_column('counterpart', no_wrap=True)
    table.add_column('order', justify='right')
    table.add_column('open event', no_wrap=True)
    for task in shown_tasks(message, tasks) if message is not None else ():
        _add_task(table, task, state.open_events.get(task.task, ''))
    return table


def printable(text: str) -> str:
    """Return a text from the graph without what a terminal takes for a command."""
    return ''.join(char if char.isprintable() else '?' for char in text)


def _add_task(table: Table, task: 'TaskHypothesis', open_label: str) -> None:
    counterpart = Text()
    if task.counterpart:
        counterpart.append(f'{task.counterpart} {task.counterpart_score:.2f}')
    order = '' if isnan(task.order_evidence) else f'{task.order_evidence:.2f}'
    pairs = list(zip(task.labels, task.scores, strict=True))
    for place, (label, score) in enumerate(pairs):
        best = place == 0
        table.add_row(
            Text(task.task if best else ''),
            Text(printable(label), style='bold' if best else 'dim'),
            Text(f'{score:.2f}', style='' if best else 'dim'),
            ProgressBar(
                total=1.0,
                completed=min(1.0, float(score)),
                width=_BAR_WIDTH,
                complete_style='cyan' if best else 'dim cyan',
                finished_style='cyan',
            ),
            counterpart if best else '',
            order if best else '',
            Text(printable(open_label) if best else '', style='green'),
            end_section=place == len(pairs) - 1,
        )


def _status_line(status: 'DiagnosticStatus') -> Text:
    from step_ros.ros.clients.watcher import LEVELS

    level = LEVELS.get(status.level, 'unknown')
    line = Text(f'{level:8}', style=_LEVEL_STYLES.get(level, ''))
    return line.append(f'{status.name}: {status.message}', style='default')


def shown_tasks(message: 'ActionHypothesis', tasks: Collection[str]) -> 'list[TaskHypothesis]':
    """Return what a hypothesis says of some tasks; of all if none is named."""
    return [task for task in message.tasks if not tasks or task.task in tasks]


def hypothesis_line(message: 'ActionHypothesis', tasks: Collection[str] = ()) -> str:
    """Write a hypothesis as one line."""
    parts = []
    for task in shown_tasks(message, tasks):
        about = []
        if task.counterpart:
            about.append(f'vs {task.counterpart} {task.counterpart_score:.2f}')
        if not isnan(task.order_evidence):
            about.append(f'order {task.order_evidence:.2f}')
        best = f'{task.labels[0]} {task.scores[0]:.2f}' if task.labels else 'no label'
        parts.append(f'{task.task}: {best}' + (f' ({", ".join(about)})' if about else ''))
    latency = message.latency.sec * 1e3 + message.latency.nanosec / 1e6
    said = ' | '.join([*parts, f'latency {latency:.0f} ms'])
    return f'{stamp_text(message)} {message.camera} {said}'


def event_line(message: 'ActionEvent') -> str:
    """Write an event as one line."""
    kind = 'START' if message.type == message.START else 'END'
    return (
        f'{stamp_text(message)} {message.camera} {kind} {message.task}: {message.label} '
        f'{message.score:.2f}'
    )


def stamp_text(message: 'ActionHypothesis | ActionEvent') -> str:
    """Write the stamp of a message in seconds."""
    stamp = message.header.stamp
    return f'{stamp.sec}.{stamp.nanosec // 10**6:03d}'


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
            from step_ros.ros.clients.watcher import Watcher
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
    from step_ros.ros.clients.watcher import choose_source

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

# SPDX-License-Identifier: Apache-2.0
"""`step_ros watch`: the hypotheses, events and diagnostics of a perception node, in the terminal.

In a terminal a live view shows one table for each camera; in a pipe, or with `--plain`, each
hypothesis and event is a line. The views are plain functions of messages, at the end of this file.
"""

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

from step_ros.cli.common import open_console, print_error, print_text, require_ros

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticStatus

    from step_ros.msg import ActionEvent, ActionHypothesis, TaskHypothesis
    from step_ros.ros.clients.watcher import CameraView, Source, Watcher

REFRESH_SECONDS = 0.1
# Seconds until the ROS graph is surely known: publishers are discovered one by one.
DISCOVERY_SECONDS = 1.5
# Without a live view, a longer silence is reported.
SILENCE_SECONDS = 3.0

# Width of the progress bar that shows a score, in characters.
_SCORE_WIDTH = 16
_LEVEL_STYLES = {'ok': 'green', 'warning': 'yellow', 'error': 'red', 'stale': 'red'}


class WatchError(RuntimeError):
    """There is nothing to watch, and waiting does not help."""


def watch(
    node: Annotated[
        str, typer.Option(help='Name of the node, or its topic. Default: the only node.')
    ] = '',
    task: Annotated[
        list[str] | None, typer.Option(help='Show only this task; repeatable.')
    ] = None,
    once: Annotated[bool, typer.Option('--once', help='Print one hypothesis and end.')] = False,
    plain: Annotated[
        bool, typer.Option('--plain', help='Print lines, as in a pipe, not a live view.')
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0, help='Give up after so many seconds of silence; 0: never.')
    ] = 0.0,
) -> None:
    """Watch a running perception node: hypotheses, events, rates, diagnostics. Ctrl-C ends it."""
    console = open_console()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with require_ros(console, 'step_ros watch'):
            from step_ros.ros.clients.watcher import Watcher
        with Watcher() as watcher:
            silence = _Silence(timeout)
            source = _find(watcher, node, silence)
            watcher.listen(source)
            if once or plain or not console.is_terminal:
                _print_lines(console, watcher, task or [], silence, once=once)
            else:
                _show_live(console, watcher, source, task or [], silence)
    except WatchError as error:
        print_error(console, error)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        pass  # the normal end


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


class _Silence:
    """Measures the time since the last message.

    Args:
        timeout: Seconds of silence after which to give up; 0 for never.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the last message, or since the start."""
        return time.monotonic() - self._since

    def end(self) -> None:
        """Note that a message came."""
        self._since = time.monotonic()

    def wait(self, reason: str) -> None:
        """Wait a moment.

        Args:
            reason: The reason of the silence, for the error.

        Raises:
            WatchError: The silence has lasted too long.
        """
        if self._timeout and self.seconds > self._timeout:
            raise WatchError(f'nothing came for {self._timeout:g} s: {reason}')
        time.sleep(REFRESH_SECONDS)


def _find(watcher: 'Watcher', node: str, silence: _Silence) -> 'Source':
    """Wait until there is a node to watch; return it.

    Raises:
        WatchError: Several nodes fit, or none comes in time.
    """
    from step_ros.ros.clients.watcher import choose_source

    remarked = False
    while True:
        found = watcher.find()
        source, reason = choose_source(found, node)
        # A node that the user named is right as soon as it is found. Without a name, another node
        # may be discovered a moment later.
        discovered = silence.seconds > DISCOVERY_SECONDS
        if source is not None and (node or discovered):
            return source
        if discovered and found and not node:
            raise WatchError(reason)
        if silence.seconds > SILENCE_SECONDS and not remarked:
            domain = os.environ.get('ROS_DOMAIN_ID', '0')
            _remark(f'{reason} (ROS_DOMAIN_ID={domain}; waiting)')
            remarked = True
        silence.wait(reason)


def _print_lines(
    console: Console, watcher: 'Watcher', tasks: list[str], silence: _Silence, *, once: bool
) -> None:
    """Print a line for each hypothesis and event, and remarks on silence."""
    from step_ros.msg import ActionEvent

    remarked = ''
    while True:
        for message in watcher.take():
            silence.end()
            remarked = ''
            if isinstance(message, ActionEvent):
                if not once and (not tasks or message.task in tasks):
                    print_text(console, printable(event_line(message)))
                continue
            _check_tasks(message, tasks)
            print_text(console, printable(hypothesis_line(message, tasks)))
            if once:
                return
        reason = watcher.silence() or 'the first window fills, or no image comes'
        if silence.seconds > SILENCE_SECONDS and reason != remarked:
            _remark(f'nothing comes: {reason}')
            remarked = reason
        silence.wait(reason)


def _show_live(
    console: Console,
    watcher: 'Watcher',
    source: 'Source',
    tasks: list[str],
    silence: _Silence,
) -> None:
    """Show the live view until interrupted."""
    from step_ros.msg import ActionEvent

    with Live(console=console, auto_refresh=False) as live:
        while True:
            for message in watcher.take():
                silence.end()
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
            silence.wait(trouble or 'no hypothesis')


def _check_tasks(message: 'ActionHypothesis', tasks: list[str]) -> None:
    if tasks and not shown_tasks(message, tasks):
        known = ', '.join(task.task for task in message.tasks)
        raise WatchError(f'no task {", ".join(tasks)}; the tasks of this node are {known}')


def _remark(text: str) -> None:
    """Print a remark, which is no part of the output, to the standard error."""
    print_text(open_console(stderr=True), printable(text))


def watch_view(
    cameras: Mapping[str, 'CameraView'],
    diagnostics: Sequence['DiagnosticStatus'],
    *,
    title: str,
    tasks: Collection[str] = (),
    trouble: str = '',
) -> RenderableType:
    """Return the live view of a node: a table for each camera, then its diagnostics.

    Args:
        cameras: Newest messages by camera.
        diagnostics: Newest statuses of the node.
        title: Name of the node and its topic.
        tasks: Tasks to show; none for all.
        trouble: Why the node may be silent; empty if no reason is known.
    """
    parts: list[RenderableType] = [Text(title, style='bold')]
    parts += [_camera_table(name, camera, tasks) for name, camera in cameras.items()]
    if trouble:
        parts.append(Text(trouble, style='yellow'))
    elif not cameras:
        parts.append(Text('nothing yet: the first window fills, or no image comes', style='dim'))
    parts += [_status_line(status) for status in diagnostics]
    return Group(*parts)


def _camera_table(name: str, camera: 'CameraView', tasks: Collection[str]) -> Table:
    message = camera.newest
    heading = Text(name, style='bold cyan')
    if message is not None:
        heading.append(
            f'   {stamp_text(message)} s   {camera.rate:.1f} hypotheses/s   '
            f'latency {_latency_ms(message):.0f} ms   {message.model_id}',
            style='not bold default',
        )
    table = Table(title=heading, title_justify='left', title_style='')
    table.add_column('task')
    table.add_column('label', no_wrap=True)
    table.add_column('score', justify='right')
    table.add_column('', width=_SCORE_WIDTH)
    table.add_column('counterpart', no_wrap=True)
    table.add_column('order', justify='right')
    table.add_column('open event', no_wrap=True)
    for task in shown_tasks(message, tasks) if message is not None else ():
        _add_task(table, task, camera.open_events.get(task.task, ''))
    return table


def _add_task(table: Table, task: 'TaskHypothesis', open_label: str) -> None:
    """Add a row for each label of a task; only the best label's row shows the other columns."""
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
                width=_SCORE_WIDTH,
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
    """Return the named tasks of a hypothesis; all tasks if none is named."""
    return [task for task in message.tasks if not tasks or task.task in tasks]


def hypothesis_line(message: 'ActionHypothesis', tasks: Collection[str] = ()) -> str:
    """Return a hypothesis as one line.

    Args:
        message: The hypothesis.
        tasks: Tasks to show; none for all.
    """
    parts = []
    for task in shown_tasks(message, tasks):
        details = []
        if task.counterpart:
            details.append(f'vs {task.counterpart} {task.counterpart_score:.2f}')
        if not isnan(task.order_evidence):
            details.append(f'order {task.order_evidence:.2f}')
        best = f'{task.labels[0]} {task.scores[0]:.2f}' if task.labels else 'no label'
        parts.append(f'{task.task}: {best}' + (f' ({", ".join(details)})' if details else ''))
    text = ' | '.join([*parts, f'latency {_latency_ms(message):.0f} ms'])
    return f'{stamp_text(message)} {message.camera} {text}'


def event_line(message: 'ActionEvent') -> str:
    """Return an event as one line."""
    kind = 'START' if message.type == message.START else 'END'
    return (
        f'{stamp_text(message)} {message.camera} {kind} {message.task}: {message.label} '
        f'{message.score:.2f}'
    )


def stamp_text(message: 'ActionHypothesis | ActionEvent') -> str:
    """Return the stamp of a message in seconds."""
    stamp = message.header.stamp
    return f'{stamp.sec}.{stamp.nanosec // 10**6:03d}'


def _latency_ms(message: 'ActionHypothesis') -> float:
    return float(message.latency.sec * 1e3 + message.latency.nanosec / 1e6)


def printable(text: str) -> str:
    """Return a text from another node without characters that would command the terminal."""
    return ''.join(char if char.isprintable() else '?' for char in text)

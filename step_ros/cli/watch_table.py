"""What a perception node says, for a terminal: as tables, or as lines."""

from collections.abc import Collection, Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticStatus

    from step_ros.msg import ActionEvent, ActionHypothesis, TaskHypothesis
    from step_ros.ros.watcher import CameraState

_BAR_WIDTH = 16
_LEVEL_STYLES = {'ok': 'green', 'warning': 'yellow', 'error': 'red', 'stale': 'red'}


def watch_view(
    cameras: Mapping[str, 'CameraState'],
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


def _camera_table(name: str, state: 'CameraState', tasks: Collection[str]) -> Table:
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
    from step_ros.ros.watcher import LEVELS

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

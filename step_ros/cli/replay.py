# SPDX-License-Identifier: Apache-2.0
"""`step_ros replay`: runs recorded bags through the recogniser and scores its hypotheses."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from step_ros.cli.common import isolate, open_console, print_text, report_errors, require_ros
from step_ros.cli.outputs import check_file, check_folder, output_folder

if TYPE_CHECKING:
    from step_ros.replay.node_output import NodeOutput
    from step_ros.replay.run import ReplayResult


def replay(
    bags: Annotated[list[Path], typer.Argument(help='Bags, or folders of bags.')],
    output: Annotated[
        Path,
        typer.Option(
            '--out',
            callback=output_folder,
            help='Folder for the report. Finished bags are not repeated.',
        ),
    ] = Path('runs/replay'),
    labels: Annotated[
        str,
        typer.Option(
            help='True labels: a topic of ActionEvents, for example /camera/truth, or a CSV file '
            'with the columns video,start,end,TASK... Default: the only topic of this type that '
            'no perception node published.'
        ),
    ] = '',
    bundle: Annotated[
        list[str] | None,
        typer.Option(
            help="Bundle: a folder, or the name of a shipped one; repeatable. Default: the node's."
        ),
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(help='Image topic; repeatable. Default: all of a bag with pictures.'),
    ] = None,
    device: Annotated[str | None, typer.Option(help='auto, cpu, cuda or cuda:N.')] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="CPU threads; 0: torch's default, but a node (--online) measures one or all.",
        ),
    ] = None,
    params_file: Annotated[
        Path | None, typer.Option(help="ROS parameter file with values for the node's parameters.")
    ] = None,
    node: Annotated[
        str,
        typer.Option(
            help='Node whose section of --params-file counts, as /robot1/perception. Default: '
            'the only one of a node called perception.'
        ),
    ] = '',
    smoothing: Annotated[
        float | None, typer.Option(help='Time constant of the scores, in s.')
    ] = None,
    on_threshold: Annotated[
        float | None, typer.Option(help='Score from which an event starts.')
    ] = None,
    off_threshold: Annotated[
        float | None, typer.Option(help='Score below which an event ends.')
    ] = None,
    minimum_duration: Annotated[
        float | None, typer.Option(help='Time above on_threshold to start an event, in s.')
    ] = None,
    minimum_gap: Annotated[
        float | None, typer.Option(help='Time below off_threshold to end an event, in s.')
    ] = None,
    minimum_order_evidence: Annotated[
        float | None,
        typer.Option(help='Order evidence to start an event of a label with a counterpart.'),
    ] = None,
    ignored_label: Annotated[
        list[str] | None, typer.Option(help='Label without events; repeatable.')
    ] = None,
    online: Annotated[
        bool,
        typer.Option(
            '--online', help='Also play the bags to a perception node, and compare its output.'
        ),
    ] = False,
    rate: Annotated[
        float,
        typer.Option(min=0.01, max=100, help='With --online: speed of playing, 1 as recorded.'),
    ] = 1.0,
    against: Annotated[
        Path | None,
        typer.Option(help='Compare with the output of a node: a file of replay_recorder.'),
    ] = None,
) -> None:
    """Run bags through the recogniser of the perception node, and score its hypotheses.

    Options without a value are as in the perception node: config/perception.yaml.
    """
    import torch

    from step_ros.encoders.base import choose_device
    from step_ros.replay.agreement import compare_replay
    from step_ros.replay.agreement_report import (
        agreement_section,
        agreement_summary,
        write_agreement,
    )
    from step_ros.replay.node_output import NodeOutput
    from step_ros.replay.report import IMAGES, label_lines, left_out_lines, write_replay_report
    from step_ros.replay.run import BAGS, ReplayPlan, name_bags
    from step_ros.replay.run import replay as replay_bags
    from step_ros.resources import find_bundle, load_defaults, read_parameters
    from step_ros.streaming.settings import StreamSettings

    given = {
        'device': device,
        'threads': threads,
        'smoothing': smoothing,
        'on_threshold': on_threshold,
        'off_threshold': off_threshold,
        'minimum_duration': minimum_duration,
        'minimum_gap': minimum_gap,
        'minimum_order_evidence': minimum_order_evidence,
        'ignored_labels': ignored_label,
    }
    console = open_console()
    with report_errors(console):
        values: dict[str, Any] = dict(load_defaults('perception.yaml'))
        if params_file is not None:
            values |= read_parameters(params_file, known=values, node=node)
        values |= {name: value for name, value in given.items() if value is not None}
        if values['threads']:
            torch.set_num_threads(values['threads'])
        plan = ReplayPlan(
            labels=labels,
            topics=tuple(topic or ()),
            settings=StreamSettings.from_values(values),
            top_k=values['top_k'],
            device=choose_device(values['device']),
        )
        bundles = [find_bundle(name) for name in bundle or [values['bundle']]]
        if online and against is not None:
            raise ValueError('--online and --against exclude each other; give only one')
        node_output = None if against is None else NodeOutput.load(against)
        # The same files at the end of the work could not be written, either.
        for name in ('report.json', 'report.md', 'report.html', 'timing.json'):
            check_file(output / name)
        for name in (BAGS, IMAGES, *(['online'] if online else [])):
            check_folder(output / name)
        result = replay_bags(bags, bundles, plan, output=output)
        agreement = []
        if node_output is not None and not result.failures:
            agreement = compare_replay(result, {_only(result): node_output})
        elif online:
            played = _play(console, result, name_bags(bags), values, rate=rate, output=output)
            agreement = compare_replay(result, played)
        more = agreement_section(agreement) if agreement else []
        with console.status('writing the report'):
            content = write_replay_report(result, output, more=more)
            write_agreement(agreement, output)
    for line in label_lines(content):
        print_text(console, line)
    for task in dict.fromkeys(task for tasks in content['overall'].values() for task in tasks):
        console.print(_summary(content, task))
    for line in agreement_summary(agreement):
        print_text(console, line)
    for line in left_out_lines(content):
        print_text(console, line)
    print_text(console, f'wrote {output / "report.html"}')
    for name, why in content['failures'].items():
        console.print(Text(f'{name}: {why}', style='red'), soft_wrap=True)
    if content['failures']:
        total = len(content['failures']) + len({each['bag'] for each in content['recordings']})
        console.print(Text(f'{len(content["failures"])} of {total} bags failed', style='red'))
    if content['failures'] or not all(each.found.agrees for each in agreement):
        raise typer.Exit(1)


def _only(result: 'ReplayResult') -> tuple[str, str]:
    """Return the bag's name and the bundle's title; a node's output is about one of each."""
    names = {
        (recording.bag, title)
        for title, recordings in result.recordings.items()
        for recording in recordings
    }
    if len(names) != 1:
        raise ValueError(
            '--against: the output of a node is about one bag with one bundle; replayed: '
            f'{len(names)}'
        )
    return next(iter(names))


def _play(
    console: Console,
    result: 'ReplayResult',
    bags: dict[str, Path],
    values: dict[str, Any],
    *,
    rate: float,
    output: Path,
) -> dict[tuple[str, str], 'NodeOutput']:
    """Play the replayed bags to perception nodes; return the output of each node."""
    with require_ros(console, '--online'):
        from step_ros.ros.processes import NodeError
        from step_ros.ros.replay.online import DOMAIN, isolation, play_replayed

    # A robot may run in the domain of this terminal; it must not receive /clock.
    os.environ.update(isolation(live=os.environ.get(DOMAIN, '')))
    isolate()
    with report_errors(console, NodeError):
        return play_replayed(result, bags, values, rate=rate, output=output)


def _summary(content: dict[str, Any], task: str) -> Table:
    """Return the scores of one task, a column for each bundle."""
    from step_ros.replay.report import score_rows

    scores = {title: tasks[task] for title, tasks in content['overall'].items() if task in tasks}
    table = Table(title=task, box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column('')
    for title in scores:
        table.add_column(Text(title), justify='right')
    for row in score_rows(list(scores.values())):
        table.add_row(*row)
    return table

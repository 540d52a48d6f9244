# SPDX-License-Identifier: Apache-2.0
"""`step_ros demo`: a camera and the perception node, live over ROS 2 on this machine.

    camera node (process) --images--> perception node (process) --hypotheses--> Observer (here)
                                                                                   |
                        live table while it runs; then a summary, a video and a timeline

Modules that are slow to import, and those that need ROS, are imported inside functions.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from step_ros.cli.common import (
    isolate,
    open_console,
    print_error,
    print_text,
    require_ros,
    save_json,
)
from step_ros.cli.outputs import output_file, output_folder

if TYPE_CHECKING:
    from step_ros.evaluation.ground_truth import Observation, Truth
    from step_ros.ros.clients.observer import Observer
    from step_ros.ros.processes import NodeProcess

NAMESPACE = '/camera'
# The task whose accuracy is the demo's accuracy.
MAIN_TASK = 'action'
REFRESH_SECONDS = 0.1
# Seconds between two printed lines, without a terminal.
LINE_SECONDS = 5.0


def demo(
    video: Annotated[
        Path | None, typer.Option(help='Show this video file instead of the synthetic tabletop.')
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help='How long to run, in seconds.')] = 30.0,
    bundle: Annotated[
        str,
        typer.Option(help="Bundle: a folder, or the name of a shipped one. Default: the node's."),
    ] = '',
    view: Annotated[
        str, typer.Option(help='Camera of the tabletop: front, side or top.')
    ] = 'front',
    seed: Annotated[int, typer.Option(min=0, help='Number of the tabletop scene.')] = 0,
    output: Annotated[
        Path,
        typer.Option(callback=output_folder, help='Folder for logs, video and timeline.'),
    ] = Path('demo_output'),
    json_file: Annotated[
        Path | None,
        typer.Option(
            '--json',
            callback=output_file,
            help='Write the figures of the summary to this file.',
        ),
    ] = None,
) -> None:
    """Watch the recogniser live: a camera node, DDS, the perception node, and its hypotheses."""
    console = open_console()
    if video is not None and not video.is_file():
        print_text(console, f'no such video: {video}', 'red')
        raise typer.Exit(1)
    output.mkdir(parents=True, exist_ok=True)
    domain = isolate()
    console.print(f'ROS_DOMAIN_ID={domain}, on this machine only; logs in {output}/')
    with require_ros(console, 'step_ros demo'):
        from step_ros.ros.clients.observer import Observer
        from step_ros.ros.perception.parameters import PERCEPTION
        from step_ros.ros.processes import NodeError, NodeProcess, wait_until

    observer = Observer(
        perception=PERCEPTION,
        image_topic=f'{NAMESPACE}/image_raw',
        truth_topic=f'{NAMESPACE}/truth',
    )
    nodes: list[NodeProcess] = []
    try:
        perception: dict[str, Any] = {'image_topics': [f'{NAMESPACE}/image_raw']}
        if bundle:
            perception['bundle'] = bundle
        nodes.append(
            NodeProcess(
                'perception_node', log=output / 'perception_node.log', parameters=perception
            )
        )
        with console.status('starting the perception node'):
            wait_until(lambda: observer.model is not None, nodes, "the node's model info")
        camera: dict[str, Any] = {'source': str(video.resolve()) if video else 'tabletop'}
        camera |= {'rate': 0.0} if video else {'view': view, 'seed': seed}
        nodes.append(
            NodeProcess(
                'camera_node',
                log=output / 'camera_node.log',
                parameters=camera,
                namespace=NAMESPACE,
            )
        )
        wait_until(lambda: bool(observer.pictures), nodes, 'the first image')
        _show_live(console, observer, nodes, seconds)
    except KeyboardInterrupt:
        console.print('interrupted')
    except NodeError as error:
        print_error(console, error)
        raise typer.Exit(1) from error
    finally:
        for node in reversed(nodes):
            node.stop()
        observer.close()
    _report(console, observer, output, json_file)


def _show_live(
    console: Console, observer: 'Observer', nodes: 'list[NodeProcess]', seconds: float
) -> None:
    """Show the live table for some seconds; without a terminal, print a line now and then."""
    from step_ros.ros.processes import check_all

    def table() -> RenderableType:
        return live_table(
            observer.observations,
            observer.truth,
            arrivals_ns=list(observer.arrivals_ns),
            seconds=time.monotonic() - started,
            total_seconds=seconds,
        )

    started = last_line = time.monotonic()
    if console.is_terminal:
        with Live(table(), console=console, auto_refresh=False) as live:
            while time.monotonic() - started < seconds:
                check_all(nodes)
                live.update(table(), refresh=True)
                time.sleep(REFRESH_SECONDS)
        return
    while time.monotonic() - started < seconds:
        check_all(nodes)
        if observer.observations and time.monotonic() - last_line >= LINE_SECONDS:
            last_line = time.monotonic()
            newest = observer.observations[-1]
            labels = ', '.join(
                f'{task}: {best.label}' for task, best in newest.predictions.items()
            )
            console.print(f'{last_line - started:5.0f} s  {labels}')
        time.sleep(REFRESH_SECONDS)


def live_table(
    observations: 'Sequence[Observation]',
    truth: 'Truth',
    *,
    arrivals_ns: Sequence[int],
    seconds: float,
    total_seconds: float,
) -> RenderableType:
    """Return the newest hypothesis beside the truth, with rates and latency below.

    Args:
        observations: Hypotheses so far.
        truth: True labels so far.
        arrivals_ns: Arrival times of recent frames.
        seconds: Time since the start.
        total_seconds: Length of the demo.
    """
    from step_ros.evaluation.ground_truth import settled_accuracy

    table = Table(title='step_ros: the newest hypothesis', title_justify='left')
    for column in ('task', 'label', 'score', 'counterpart', 'order evidence', 'truth'):
        table.add_column(column, min_width=len(column), no_wrap=True)
    if not observations:
        table.add_row('...', 'the first window fills', '', '', '', '')
        return table
    newest = observations[-1]
    for task, best in newest.predictions.items():
        true = truth.at(task, newest.stamp_ns)
        style = '' if not true else 'green' if true == best.label else 'red'
        counterpart = (
            f'{best.counterpart} {best.counterpart_score:.2f}' if best.counterpart else ''
        )
        table.add_row(
            task,
            Text(best.label, style=style),
            f'{best.score:.2f}',
            counterpart,
            f'{best.order_evidence:.2f}',
            true,
        )
    latency = latency_percentiles(observations[-200:])
    accuracy = settled_accuracy(observations, truth)
    text = (
        f'{seconds:.0f} of {total_seconds:.0f} s   '
        f'{frames_per_second(arrivals_ns):.1f} frames/s   {len(observations)} hypotheses   '
        f'latency {latency["p50"]:.0f} / {latency["p95"]:.0f} / {latency["p99"]:.0f} ms '
        '(p50/p95/p99)'
    )
    lines = [Text(text, style='dim')]
    if accuracy:
        parts = ', '.join(f'{task} {share:.0%}' for task, share in accuracy.items())
        lines.append(Text(f'accuracy on settled windows: {parts}', style='dim'))
    return Group(table, *lines)


def latency_percentiles(observations: 'Sequence[Observation]') -> dict[str, float]:
    """Return p50, p95 and p99 of the latency from camera stamp to arrival, in milliseconds."""
    from step_ros.reporting.percentiles import percentiles

    found = percentiles([seen.latency_ms for seen in observations])
    return {name: round(value, 1) for name, value in found.items()}


def frames_per_second(arrivals_ns: Sequence[int]) -> float:
    """Return the rate of recent frames; 0 while there are fewer than two."""
    if len(arrivals_ns) < 2 or arrivals_ns[-1] <= arrivals_ns[0]:
        return 0.0
    return (len(arrivals_ns) - 1) / ((arrivals_ns[-1] - arrivals_ns[0]) / 1e9)


def _report(console: Console, observer: 'Observer', output: Path, json_file: Path | None) -> None:
    """Print the summary; write the figures, the video and the timeline."""
    if not observer.observations or observer.model is None:
        console.print(
            'no hypothesis came: the demo ran for less than one window; choose more --seconds'
        )
        raise typer.Exit(1)
    summary = summarise(observer)
    accuracy = summary['settled_accuracy_by_task']
    console.print(f'\nmodel {summary["model_id"]}')
    if accuracy:
        parts = ', '.join(f'{task} {share:.3f}' for task, share in accuracy.items())
        console.print(f'accuracy on settled windows: {parts}')
    else:
        console.print('no accuracy: this camera has no true labels')
    latency = summary['latency_ms']
    console.print(
        f'{summary["hypotheses"]} hypotheses, '
        f'{summary["dropped_grid_frames"]} dropped grid frames, '
        f'latency {latency["p50"]} / {latency["p95"]} / {latency["p99"]} ms (p50/p95/p99)'
    )
    if json_file is not None:
        save_json(json_file, summary)
    with console.status('writing the video and the timeline'):
        paths = write_pictures(observer, output)
    console.print('wrote ' + ', '.join(str(path) for path in paths))


def summarise(observer: 'Observer') -> dict[str, Any]:
    """Return the figures of a demo that gave at least one hypothesis.

    Returns:
        `settled_accuracy` (of the task `action`; None without truth), the same by task,
        `hypotheses`, `dropped_grid_frames`, `latency_ms` (p50, p95, p99 from camera stamp to
        arrival), `node_latency_ms_mean` (the node's part) and `model_id`.
    """
    from step_ros.evaluation.ground_truth import dropped_grid_frames, settled_accuracy
    from step_ros.ros.conversion import to_nanoseconds

    assert observer.model is not None
    observations = list(observer.observations)
    accuracy = settled_accuracy(observations, observer.truth)
    node_ms = [seen.node_latency_ns / 1e6 for seen in observations]
    return {
        'settled_accuracy': accuracy.get(MAIN_TASK),
        'settled_accuracy_by_task': accuracy,
        'hypotheses': len(observations),
        'dropped_grid_frames': dropped_grid_frames(
            observations, to_nanoseconds(observer.model.frame_period)
        ),
        'latency_ms': latency_percentiles(observations),
        'node_latency_ms_mean': round(sum(node_ms) / len(node_ms), 1),
        'model_id': observer.model.model_id,
    }


def write_pictures(observer: 'Observer', output: Path) -> list[Path]:
    """Write the annotated video and the timeline; return their paths."""
    from step_ros.io.video import VideoWriter
    from step_ros.visualization.demo import annotate, plot_timeline

    video, timeline = output / 'demo.mp4', output / 'timeline.png'
    observations = list(observer.observations)
    newest = -1
    writer: VideoWriter | None = None
    for picture in observer.pictures:
        # Each picture shows the newest hypothesis that is not from its future.
        while newest + 1 < len(observations) and (
            observations[newest + 1].stamp_ns <= picture.stamp_ns
        ):
            newest += 1
        seen = observations[newest] if newest >= 0 else None
        image = annotate(picture.image(), picture.stamp_ns, seen, observer.truth)
        if writer is None:
            writer = VideoWriter(video, size=(image.shape[1], image.shape[0]), rate=10)
        writer.write(image, picture.stamp_ns)
    if writer is not None:
        writer.close()
    assert observer.model is not None
    plot_timeline(timeline, observations, observer.truth, title=observer.model.model_id)
    return [video, timeline]

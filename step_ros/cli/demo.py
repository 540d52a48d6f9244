"""`step_ros demo`: a camera and the perception node, live over ROS 2 on this machine."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from step_ros.cli.isolation import isolate, ros_imported

if TYPE_CHECKING:
    from step_ros.ros.observer import Observer
    from step_ros.ros.processes import NodeProcess

PERCEPTION = '/perception'
NAMESPACE = '/camera'
REFRESH_SECONDS = 0.1
# Without a terminal a line is printed this often.
LINE_SECONDS = 5.0


def demo(
    video: Annotated[
        Path | None, typer.Option(help='A video file instead of the synthetic tabletop.')
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help='How long it runs, in seconds.')] = 30.0,
    bundle: Annotated[
        str, typer.Option(help='Model bundle: a folder or a shipped name; empty for the default.')
    ] = '',
    view: Annotated[
        str, typer.Option(help='Camera of the tabletop: front, side or top.')
    ] = 'front',
    seed: Annotated[int, typer.Option(min=0, help='Scene of the tabletop.')] = 0,
    output: Annotated[Path, typer.Option(help='Folder for what it writes.')] = Path('demo_output'),
    json_file: Annotated[
        Path | None, typer.Option('--json', help='Write the figures of the summary here.')
    ] = None,
) -> None:
    """Watch the recogniser live: camera node, DDS, perception node, and what it says."""
    console = Console()
    if video is not None and not video.is_file():
        console.print(f'[red]no such video: {video}')
        raise typer.Exit(1)
    output.mkdir(parents=True, exist_ok=True)
    domain = isolate()
    console.print(f'ROS_DOMAIN_ID={domain}, on this machine only; logs in {output}/')
    with ros_imported(console, 'the demo'):
        from step_ros.ros.observer import Observer
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
            wait_until(lambda: observer.model is not None, nodes, 'what the node decides')
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
        wait_until(lambda: bool(observer.pictures), nodes, 'an image')
        _watch(console, observer, nodes, seconds)
    except KeyboardInterrupt:
        console.print('interrupted')
    except NodeError as error:
        console.print(f'[red]{error}')
        raise typer.Exit(1) from error
    finally:
        for node in reversed(nodes):
            node.stop()
        observer.close()
    _report(console, observer, output, json_file)


def _watch(
    console: Console, observer: 'Observer', nodes: 'list[NodeProcess]', seconds: float
) -> None:
    from step_ros.cli.demo_table import live_table
    from step_ros.ros.processes import check_all

    def table() -> Any:
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
            says = ', '.join(f'{task}: {a.label}' for task, a in newest.answers.items())
            console.print(f'{last_line - started:5.0f} s  {says}')
        time.sleep(REFRESH_SECONDS)


def _report(console: Console, observer: 'Observer', output: Path, json_file: Path | None) -> None:
    from step_ros.cli.demo_report import summarise, write_pictures

    if not observer.observations or observer.model is None:
        console.print('no hypothesis came: it ran for less than one window')
        raise typer.Exit(1)
    summary = summarise(observer)
    accuracy = summary['settled_accuracy_by_task']
    console.print(f'\nmodel {summary["model_id"]}')
    if accuracy:
        parts = ', '.join(f'{task} {share:.3f}' for task, share in accuracy.items())
        console.print(f'accuracy on settled windows: {parts}')
    else:
        console.print('no truth is known for this camera, so there is no accuracy')
    latency = summary['latency_ms']
    console.print(
        f'{summary["hypotheses"]} hypotheses, '
        f'{summary["dropped_grid_frames"]} dropped grid frames, '
        f'latency {latency["p50"]} / {latency["p95"]} / {latency["p99"]} ms (p50/p95/p99)'
    )
    if json_file is not None:
        json_file.write_text(json.dumps(summary, indent=2) + '\n')
    with console.status('writing the video and the timeline'):
        paths = write_pictures(observer, output)
    console.print('wrote ' + ', '.join(str(path) for path in paths))

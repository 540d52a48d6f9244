#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run both examples on the synthetic tabletop: a camera, the perception node and two robots.

python3 examples/demo_cell.py
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from step_ros.cli.common import isolate, require_ros

HERE = Path(__file__).resolve().parent
# The person lays something down every few seconds: robots that take longer than this are stuck.
TIMEOUT_SECONDS = 240.0


def main(
    parts: Annotated[int, typer.Option(min=1, help='Number of parts to hand over.')] = 3,
    rounds: Annotated[
        int, typer.Option(min=1, help='Number of rounds of the behaviour tree.')
    ] = 2,
    seed: Annotated[int, typer.Option(min=0, help='Number of the tabletop scene.')] = 0,
    output: Annotated[Path, typer.Option(help="Folder for the nodes' logs.")] = Path(
        'demo_output'
    ),
) -> None:
    """Start a camera, the perception node and two robots; end when both robots have finished."""
    console = Console()
    output.mkdir(parents=True, exist_ok=True)
    isolate()
    with require_ros(console, 'the cell'):
        from step_ros.ros.processes import NodeError, NodeProcess, check_all
    images = '/camera/image_raw'
    console.print(
        f'starting two nodes (logs in {output}/) and two robots, which print why they act'
    )
    robots = [
        subprocess.Popen([sys.executable, str(HERE / name), '--ros-args', '-p', parameter])
        for name, parameter in (
            ('hand_over.py', f'parts:={parts}'),
            ('behaviour_tree.py', f'rounds:={rounds}'),
        )
    ]
    nodes: list[NodeProcess] = []
    try:
        for name, namespace, parameters in (
            ('perception_node', '/', {'image_topics': [images]}),
            ('camera_node', '/camera', {'source': 'tabletop', 'seed': seed}),
        ):
            log = output / f'{name}.log'
            nodes.append(NodeProcess(name, log=log, parameters=parameters, namespace=namespace))
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while any(robot.poll() is None for robot in robots):
            check_all(nodes)
            if time.monotonic() > deadline:
                raise NodeError(
                    f'the robots did not finish within {TIMEOUT_SECONDS:.0f} s; see {output}/'
                )
            time.sleep(0.2)
    except KeyboardInterrupt:
        console.print('interrupted')
    except NodeError as error:
        console.print(f'[red]{error}')
        raise typer.Exit(1) from error
    finally:
        for robot in robots:
            robot.terminate()
            robot.wait()
        for node in reversed(nodes):
            node.stop()
    if any(robot.returncode not in (0, -15) for robot in robots):
        raise typer.Exit(1)


if __name__ == '__main__':
    typer.run(main)

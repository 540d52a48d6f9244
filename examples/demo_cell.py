#!/usr/bin/env python3
"""Both examples against the synthetic tabletop: a camera, the perception node, two robots.

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
# Laying something down happens every now and then; a robot that waited this long is stuck.
PATIENCE = 240.0


def main(
    parts: Annotated[int, typer.Option(min=1, help='Parts that are handed over.')] = 3,
    rounds: Annotated[int, typer.Option(min=1, help='Rounds of the behaviour tree.')] = 2,
    seed: Annotated[int, typer.Option(min=0, help='Scene of the tabletop.')] = 0,
    output: Annotated[Path, typer.Option(help="Folder for the nodes' logs.")] = Path(
        'demo_output'
    ),
) -> None:
    """Start a camera, the perception node and two robots; end when both robots are done."""
    console = Console()
    output.mkdir(parents=True, exist_ok=True)
    isolate()
    with require_ros(console, 'the cell'):
        from step_ros.ros.processes import NodeError, NodeProcess, check_all
    images = '/camera/image_raw'
    console.print(f'starting two nodes (logs in {output}/) and two robots, which say why they act')
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
        deadline = time.monotonic() + PATIENCE
        while any(robot.poll() is None for robot in robots):
            check_all(nodes)
            if time.monotonic() > deadline:
                raise NodeError(f'the robots have waited for {PATIENCE:.0f} s; see {output}/')
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

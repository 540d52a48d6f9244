# SPDX-License-Identifier: Apache-2.0
"""`step_ros bench`: measures time and memory on this machine; one file for each benchmark."""

import typer

from step_ros.cli.bench.node import node
from step_ros.cli.bench.runtimes import runtimes
from step_ros.cli.bench.soak import soak
from step_ros.cli.bench.stream import stream
from step_ros.cli.bench.tasks import tasks
from step_ros.cli.bench.transport import transport

app = typer.Typer(help='Measure time and memory on this machine.', no_args_is_help=True)
app.command()(node)
app.command()(runtimes)
app.command()(soak)
app.command()(stream)
app.command()(tasks)
app.command()(transport)

# SPDX-License-Identifier: Apache-2.0
"""The command `step_ros`: one file for each verb.

The verbs import torch, ROS and other slow modules inside their functions, so that
`step_ros --help` answers at once.
"""

from typing import Annotated

import typer

from step_ros import __version__
from step_ros.cli.ablate import ablate
from step_ros.cli.bench import app as bench_app
from step_ros.cli.bundle import app as bundle_app
from step_ros.cli.common import VerbGroup
from step_ros.cli.complexity import complexity
from step_ros.cli.data import app as data_app
from step_ros.cli.data import record_demo
from step_ros.cli.demo import demo
from step_ros.cli.doctor import doctor
from step_ros.cli.evaluate import evaluate
from step_ros.cli.record import record
from step_ros.cli.replay import replay
from step_ros.cli.teach import teach, teach_curve
from step_ros.cli.train import train
from step_ros.cli.watch import watch

app = typer.Typer(
    cls=VerbGroup,
    name='step_ros',
    help='Order-aware action recognition for human-robot interaction.',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f'step_ros {__version__}')
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            '--version', callback=_print_version, is_eager=True, help='Print the version and exit.'
        ),
    ] = False,
) -> None:
    """Take the options of `step_ros` itself, before a verb."""


app.command()(ablate)
app.add_typer(bench_app, name='bench')
app.add_typer(bundle_app, name='bundle')
app.command()(complexity)
app.add_typer(data_app, name='data')
app.command()(demo)
app.command()(doctor)
app.command()(evaluate)
app.command()(record)
app.command(name='record-demo')(record_demo)
app.command()(replay)
app.command()(teach)
app.command(name='teach-curve')(teach_curve)
app.command()(train)
app.command()(watch)


def main() -> None:
    """Run the command line."""
    app()

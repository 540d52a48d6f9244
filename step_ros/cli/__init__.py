"""The command `step_ros`: one file for each verb."""

import typer

from step_ros.cli.complexity import complexity
from step_ros.cli.data import app as data_app
from step_ros.cli.demo import demo
from step_ros.cli.train import train

app = typer.Typer(
    name='step_ros',
    help='Order-aware action recognition for human-robot interaction.',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(complexity)
app.add_typer(data_app, name='data')
app.command()(demo)
app.command()(train)


def main() -> None:
    """Run the command line."""
    app()

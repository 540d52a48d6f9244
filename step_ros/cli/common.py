# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the verbs: errors and output, options, and the start of ROS 2.

This module must import fast: every `step_ros --help` loads it. So heavy modules are imported
inside the functions that need them.
"""

import json
import math
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from step_ros.cli.outputs import output_file, output_folder

# The bundle that benchmarks run by default, and the folder of their logs.
SHIPPED = 'tabletop-tiny'
LOGS = Path('demo_output/bench')

# Options that several benchmarks have.
BundleName = Annotated[str, typer.Option(help='Bundle: a folder, or the name of a shipped one.')]
Device = Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')]
Runtime = Annotated[
    str, typer.Option(help='Runtime of the encoder: auto, torch, openvino or onnx.')
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Processor threads of torch. Default: torch's choice.")
]
Width = Annotated[int, typer.Option(min=1, help='Width of the images in pixels.')]
Height = Annotated[int, typer.Option(min=1, help='Height of the images in pixels.')]
Logs = Annotated[
    Path, typer.Option(callback=output_folder, help='Folder for the logs of the processes.')
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        '--json',
        callback=output_file,
        help='Write machine, configuration and figures to this file.',
    ),
]


def open_console(*, stderr: bool = False) -> Console:
    """Return a console that prints texts, cells and titles as they are.

    Names of files, labels and topics may hold brackets or colons, which rich would take for
    markup and emoji. So every verb prints through this console and gives colours by `style`.

    Args:
        stderr: Whether to print to the standard error output.
    """
    return Console(stderr=stderr, markup=False, emoji=False)


def print_text(console: Console, text: str, style: str = '') -> None:
    """Print a text as it is: no markup, as names may hold brackets, and no cut paths."""
    # A file name may hold bytes that are no text, which no terminal can show.
    shown = text.encode('utf-8', 'replace').decode('utf-8')
    console.print(Text(shown, style=style), soft_wrap=True)


def print_error(console: Console, error: Exception) -> None:
    """Print an error in red, as it is."""
    print_text(console, str(error), 'red')


@contextmanager
def report_errors(console: Console, *more: type[Exception]) -> Iterator[None]:
    """Print an error that the user can mend, without a traceback, and exit with 1.

    Args:
        console: Where to print.
        more: Expected errors beside `expected_errors`.

    Raises:
        Exit: There was an expected error.
    """
    try:
        yield
    except (*expected_errors(), *more) as error:
        print_error(console, error)
        raise typer.Exit(1) from error


def expected_errors() -> tuple[type[Exception], ...]:
    """Return the errors of training and evaluation that a user can mend."""
    from step_ros.encoders.base import EncoderError
    from step_ros.io.errors import DatasetError
    from step_ros.io.video import VideoError
    from step_ros.model.bundle import BundleError
    from step_ros.model.weights import WeightsError
    from step_ros.training.checkpoint import CheckpointError
    from step_ros.training.feature_cache.spec import CacheError
    from step_ros.training.fit import FitError

    return (
        BundleError,
        CacheError,
        CheckpointError,
        DatasetError,
        EncoderError,
        FitError,
        # A file is missing, or the disk is full.
        OSError,
        ValueError,
        VideoError,
        WeightsError,
    )


def save_json(path: Path, content: Any) -> None:
    """Write a JSON file; make its folder if it is missing.

    Raises:
        Exit: The file cannot be written; one line says why.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    except OSError as error:
        # The check before the work found a place, but the disk is full now.
        print_error(open_console(), error)
        raise typer.Exit(1) from error


def split_options(
    option: str,
    given: list[str] | None,
    *,
    expected: str = 'KEY=VALUE, each key once',
    empty: bool = True,
) -> dict[str, str]:
    """Split values of an option, each KEY=VALUE, into a dictionary.

    Args:
        option: Name of the option, for error messages.
        given: Values of the option.
        expected: Expected form, for error messages.
        empty: Whether a VALUE may be empty.

    Raises:
        BadParameter: A value has another form, or a key occurs twice.
    """
    found: dict[str, str] = {}
    for text in given or ():
        key, separator, value = (part.strip() for part in text.partition('='))
        if not separator or not key or not (value or empty) or key in found:
            raise typer.BadParameter(f'{option} {text}: expected {expected}')
        found[key] = value
    return found


def parse_token_grid(option: str, text: str) -> tuple[int, int]:
    """Return rows and columns of a token grid, given as ROWSxCOLUMNS.

    Args:
        option: Name of the option, for error messages.
        text: Value of the option.

    Raises:
        BadParameter: The value has another form.
    """
    found = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', text)
    if found is None:
        raise typer.BadParameter(f'{option} {text}: expected ROWSxCOLUMNS, for example 8x8')
    return int(found[1]), int(found[2])


@contextmanager
def require_ros(console: Console, user: str) -> Iterator[None]:
    """Import ROS modules in this context: if one is missing, print one line and exit with 1.

    Args:
        console: Where to print.
        user: Name of the verb that needs ROS 2, for the error message.

    Raises:
        Exit: A module is missing: of ROS 2, or of this package's build for it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        from step_ros.reporting.installation import how_to_install

        print_text(
            console,
            f'{user} needs ROS 2 and this package built for it, but the module '
            f'{error.name} is not installed; {how_to_install(error.name or "rclpy")}',
            'red',
        )
        raise typer.Exit(1) from error


class VerbGroup(TyperGroup):
    """The verbs: a missing module or an unusable environment ends each in one line.

    The modules that a verb needs are not part of every installation: a robot does without those
    of training. The line says how to install them on this kind of installation.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the verb.

        Raises:
            Exit: A module is missing, or the environment of ROS 2 is unusable.
        """
        from step_ros.reporting.environment import RosEnvironmentError

        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if error.name is None:
                raise
            from step_ros.reporting.installation import how_to_install

            advice = how_to_install(error.name)
            self._print(ctx, f'the module {error.name} is not installed; {advice}')
            raise typer.Exit(1) from error
        except RosEnvironmentError as error:
            self._print(ctx, str(error))
            raise typer.Exit(1) from error

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the verb of a name; its numbers are checked before it runs."""
        return _checked(super().get_command(ctx, cmd_name))

    @staticmethod
    def _print(ctx: Any, line: str) -> None:
        verb = ' '.join(filter(None, (ctx.info_name, ctx.invoked_subcommand)))
        print_text(open_console(stderr=True), f'{verb}: {line}', 'red')


def _checked(command: Any) -> Any:
    """Make a command, and those below it, refuse numbers that are not finite.

    A minimum alone lets infinity pass, and no limit keeps NaN out in every version of click.
    """
    if command is None or hasattr(command, 'checks_numbers'):
        return command
    command.checks_numbers = True
    for below in getattr(command, 'commands', {}).values():
        _checked(below)
    run = command.invoke

    def invoke(ctx: Any) -> Any:
        for name, value in ctx.params.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise typer.BadParameter(
                    f'{value} is no finite number',
                    ctx=ctx,
                    param_hint=f'--{name.replace("_", "-")}',
                )
        return run(ctx)

    command.invoke = invoke
    return command


def isolate() -> str:
    """Separate this verb's ROS 2 nodes from all others; return the domain.

    Discovery stays on this machine, and the domain is one of its own unless the user chose one.
    From now on SIGTERM ends the verb in order, as Ctrl-C does: its nodes run in sessions of their
    own and would go on.

    Raises:
        RosEnvironmentError: The domain that the user chose is none, or logs cannot be written.
    """
    from step_ros.reporting.environment import check_ros_environment

    check_ros_environment()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    # An empty variable means the default domain, as if it were not set.
    domain = os.environ.get('ROS_DOMAIN_ID', '').strip() or str(50 + os.getpid() % 50)
    os.environ['ROS_DOMAIN_ID'] = domain
    return domain

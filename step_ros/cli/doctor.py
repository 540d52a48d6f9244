# SPDX-License-Identifier: Apache-2.0
"""`step_ros doctor`: what is wrong on this machine, in words, and the mend."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from step_ros.cli.common import JsonFile, open_console, print_text, save_json

if TYPE_CHECKING:
    from step_ros.reporting.doctor import Finding

_STYLES = {'ok': 'green', 'note': 'cyan', 'warning': 'yellow', 'error': 'red'}


def doctor(
    json_file: JsonFile = None,
    node: Annotated[
        bool, typer.Option('--node/--no-node', help='Ask running perception nodes.')
    ] = True,
) -> None:
    """Say what is wrong on this machine, and the mend; exit with 1 if it stops work."""
    console = open_console()
    found = []
    for finding in findings(ask_nodes=node):
        found.append(finding)
        print_text(
            console, f'{finding.level:8}{finding.area}: {finding.text}', _STYLES[finding.level]
        )
        if finding.mend:
            print_text(console, f'{"":8}  mend: {finding.mend}')
    errors = sum(finding.level == 'error' for finding in found)
    warnings = sum(finding.level == 'warning' for finding in found)
    print_text(console, f'{errors} errors that stop work, {warnings} warnings')
    if json_file is not None:
        try:
            save_json(json_file, {'findings': [finding.as_dict() for finding in found]})
        except OSError as error:
            print_text(console, f'--json {json_file}: cannot be written: {error}', 'red')
            raise typer.Exit(1) from error
    if errors:
        raise typer.Exit(1)


def findings(*, ask_nodes: bool = True) -> 'Iterator[Finding]':
    """Yield all findings about this machine, area by area.

    Args:
        ask_nodes: Whether to ask running perception nodes.
    """
    from step_ros.reporting.doctor import (
        folder_findings,
        hub_findings,
        machine_findings,
        middleware_findings,
        package_findings,
        ros_findings,
        shared_memory_findings,
    )

    yield from machine_findings()
    yield from package_findings()
    yield from passes_findings()
    yield from hub_findings()
    yield from folder_findings()
    yield from ros_findings()
    yield from middleware_findings()
    yield from shared_memory_findings()
    if ask_nodes:
        yield from _node_findings()


def passes_findings() -> 'Iterator[Finding]':
    """Yield findings about the processor's features and the compiled attention passes."""
    from step_ros.reporting.doctor import Finding
    from step_ros.streaming.attention_cache.library import (
        LEVELS,
        NativeError,
        find_library,
        processor_features,
    )

    features = processor_features()
    levels = [
        level
        for each in LEVELS.values()
        for level, (_, needed) in each.items()
        if needed and features.issuperset(needed)
    ]
    if levels:
        yield Finding('processor', 'ok', f'it has the features of {levels[0]}')
    try:
        path = find_library()
        from step_ros.streaming.attention_cache.passes import NativePasses

        NativePasses(path)
    except ModuleNotFoundError as error:
        yield Finding('processor', 'note', f'compiled attention passes: needs {error.name}')
    except (AttributeError, NativeError, OSError) as error:
        yield Finding(
            'processor',
            'warning',
            f'no compiled attention passes, so heads run slower: {error}',
            'install a C++ compiler (sudo apt install g++) and build or install the package again',
        )
    else:
        yield Finding('processor', 'ok', f'the compiled attention passes load: {path.name}')


def _node_findings() -> 'Iterator[Finding]':
    from step_ros.reporting.doctor import Finding
    from step_ros.reporting.environment import RosEnvironmentError

    try:
        from step_ros.ros.clients.doctor import node_findings
    except ModuleNotFoundError:
        return  # the findings about ROS 2 say so
    except ImportError as error:
        yield Finding('ROS 2', 'error', f'it does not load: {error}', 'source its setup.bash')
        return
    try:
        yield from node_findings()
    except RosEnvironmentError as error:
        yield Finding('perception node', 'error', f'cannot be asked: {error}')

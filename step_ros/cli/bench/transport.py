# SPDX-License-Identifier: Apache-2.0
"""`step_ros bench transport`: large images with and without the shared-memory profile."""

from itertools import product
from typing import Annotated, Any

import typer

from step_ros.cli.common import (
    LOGS,
    JsonFile,
    Logs,
    isolate,
    open_console,
    report_errors,
    require_ros,
)

SIZES = ('640x480', '1280x720', '1920x1080')


def transport(
    size: Annotated[
        list[str] | None,
        typer.Option(help='WIDTHxHEIGHT of the images. Default: 640x480, 1280x720 and 1920x1080.'),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help='Images per second.')] = 30.0,
    seconds: Annotated[
        float, typer.Option(min=1, help='Measured time of each combination.')
    ] = 10.0,
    logs: Logs = LOGS,
    json_file: JsonFile = None,
) -> None:
    """Send large images through Fast DDS, with `config/fastdds.xml` and without.

    A publisher process sends best effort, as a camera does; this process receives.
    """
    from step_ros.reporting.machine import machine, write_json
    from step_ros.reporting.progress import track

    console = open_console(stderr=True)
    with require_ros(console, 'step_ros bench transport'):
        from step_ros.ros.benchmarks.transport import (
            TransportTimes,
            measure_transport,
            transport_table,
        )
        from step_ros.ros.processes import NodeError

    isolate()
    rows: list[TransportTimes] = []
    content: dict[str, Any] = {'machine': machine(), 'seconds': seconds}
    try:
        with report_errors(console, NodeError):
            logs.mkdir(parents=True, exist_ok=True)
            ways = list(product(map(_size, size or SIZES), (False, True)))
            for (width, height), profile in track(ways, 'sizes and profiles'):
                rows.append(
                    measure_transport(
                        width=width,
                        height=height,
                        rate=rate,
                        profile=profile,
                        seconds=seconds,
                        folder=logs,
                    )
                )
                if json_file is not None:  # after each row: a later failure must not lose it
                    content['rows'] = [row.as_dict() for row in rows]
                    write_json(json_file, content)
    finally:
        if rows:
            typer.echo(transport_table(rows))


def _size(text: str) -> tuple[int, int]:
    width, separator, height = text.partition('x')
    if not separator or not width.isdecimal() or not height.isdecimal() or '0' in (width, height):
        raise ValueError(f'--size {text}: expected WIDTHxHEIGHT, for example 640x480')
    return int(width), int(height)

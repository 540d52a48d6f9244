# SPDX-License-Identifier: Apache-2.0
"""`step_ros bench tasks`: the time for several tasks, with STEP and with an adapter for each."""

from pathlib import Path
from typing import Annotated, Any

import typer

from step_ros.cli.common import Device, JsonFile, Threads, open_console, report_errors
from step_ros.cli.outputs import output_file

BACKBONE = 'vit_small_patch14_dinov2'
TASKS = tuple(range(1, 9))


def tasks(
    tasks: Annotated[
        list[int] | None, typer.Option(min=1, help='Numbers of tasks. Default: 1 to 8.')
    ] = None,
    backbone: Annotated[
        str, typer.Option(help='Backbone: a name of timm. The weights are random.')
    ] = BACKBONE,
    frames: Annotated[int, typer.Option(min=1, help='Frames in a window.')] = 16,
    image_size: Annotated[int, typer.Option(min=1, help='Side of the images in pixels.')] = 224,
    turns: Annotated[int, typer.Option(min=1, help='How often to measure each way.')] = 3,
    threads: Threads = None,
    memory_budget: Annotated[
        int | None,
        typer.Option(min=0, help="Bytes for a camera's attention cache. Default: as in the node."),
    ] = None,
    device: Device = 'cpu',
    plot: Annotated[
        Path | None,
        typer.Option(callback=output_file, help='Draw the times into this image file.'),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Time 1 to 8 tasks: STEP's heads on one encoder pass, and an ST-Adapter pass for each task.

    Both get the same frames in one view, in turns. (Fig. 4 of the STEP paper counts operations,
    and three views of ST-Adapter.) A third figure is the time of the stream for one new frame.
    """
    import torch

    from step_ros.benchmarks.tasks import TasksBenchmark, TasksTimes, plot_tasks, tasks_table
    from step_ros.encoders.base import choose_device
    from step_ros.reporting.machine import machine, write_json
    from step_ros.reporting.progress import track
    from step_ros.streaming.attention_cache.storage import MEMORY_BUDGET

    if threads is not None:
        torch.set_num_threads(threads)
    counts = sorted(tasks or TASKS)
    size = (image_size, image_size)
    rows: list[TasksTimes] = []
    content: dict[str, Any] = {
        'machine': machine(),
        'configuration': {
            'backbone': backbone,
            'frames': frames,
            'image': list(size),
            'turns': turns,
            'views': 1,
        },
    }
    try:
        with report_errors(open_console(stderr=True)):
            benchmark = TasksBenchmark(
                backbone,
                frames=frames,
                image_size=size,
                device=choose_device(device),
                memory_budget=MEMORY_BUDGET if memory_budget is None else memory_budget,
            )
            for row in track(benchmark.run(counts, turns), 'numbers of tasks', len(counts)):
                rows.append(row)
                if json_file is not None:  # after each row: a later failure must not lose it
                    content['rows'] = [row.as_dict() for row in rows]
                    write_json(json_file, content)
    finally:
        if rows:
            typer.echo(tasks_table(rows))
    if plot is not None:
        plot_tasks(plot, rows, title=f'{backbone}, {frames} frames of {image_size} px, one view')

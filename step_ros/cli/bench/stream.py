# SPDX-License-Identifier: Apache-2.0
"""`step_ros bench stream`: a hypothesis from one new frame, against one from the whole clip."""

from typing import Annotated

import typer

from step_ros.cli.common import (
    SHIPPED,
    Device,
    JsonFile,
    Runtime,
    Threads,
    open_console,
    parse_token_grid,
    print_error,
)

BACKBONES = ('vit_small_patch14_dinov2', 'vit_base_patch14_dinov2')
TASKS = (1, 3)


def stream(
    bundle: Annotated[
        list[str] | None,
        typer.Option(help='Bundles: folders, or names of shipped ones. Default: tabletop-tiny.'),
    ] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            help='Backbones with random weights: names of timm. Default: DINOv2-S and -B.'
        ),
    ] = None,
    tasks: Annotated[
        list[int] | None,
        typer.Option(help='Numbers of tasks for these backbones. Default: 1 and 3.'),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help='Frames in their windows.')] = 16,
    image_size: Annotated[int, typer.Option(min=1, help='Side of their images in pixels.')] = 224,
    token_grid: Annotated[
        str | None,
        typer.Option(help='Average their patch tokens to ROWSxCOLUMNS. Default: one per patch.'),
    ] = None,
    turns: Annotated[int, typer.Option(min=1, help='How often to measure each way.')] = 7,
    threads: Threads = None,
    order_evidence: Annotated[
        bool,
        typer.Option(help='Also predict for the reversed window, both ways, as the node does.'),
    ] = True,
    memory_budget: Annotated[
        int | None,
        typer.Option(min=0, help="Bytes for a camera's attention cache. Default: as in the node."),
    ] = None,
    cameras: Annotated[
        int, typer.Option(min=1, help='Number of cameras; each turn has one frame of each.')
    ] = 1,
    runtime: Runtime = 'auto',
    device: Device = 'auto',
    json_file: JsonFile = None,
) -> None:
    """Compare the time of a hypothesis from one new frame and from the whole clip.

    Both ways are measured in turns, on images of noise; the times are medians. Without --bundle
    and --backbone: the shipped bundle, and DINOv2-S and -B with random weights.
    """
    import torch

    from step_ros.benchmarks.stream import (
        StreamBenchmark,
        StreamTimes,
        random_bundles,
        stream_table,
    )
    from step_ros.encoders.factory import create_encoder
    from step_ros.model.bundle import BundleError, load_bundle
    from step_ros.model.weights import WeightsError
    from step_ros.reporting.machine import machine, write_json
    from step_ros.reporting.progress import track
    from step_ros.resources import find_bundle
    from step_ros.streaming.attention_cache.storage import MEMORY_BUDGET

    grid = None if token_grid is None else parse_token_grid('--token-grid', token_grid)
    if threads is not None:
        torch.set_num_threads(threads)
    if bundle is None and backbone is None:
        bundle, backbone = [SHIPPED], list(BACKBONES)
    names, backbones, counts = bundle or [], backbone or [], tasks or list(TASKS)
    rows: list[StreamTimes] = []
    content = {'machine': machine(), 'turns': turns}
    try:
        shipped = (load_bundle(find_bundle(name)) for name in names)
        made = random_bundles(
            backbones,
            tasks=counts,
            frames=frames,
            image_size=(image_size, image_size),
            token_grid=grid,
        )
        total = len(names) + len(backbones) * len(counts)
        bundles = (each for source in (shipped, made) for each in source)
        for each in track(bundles, 'bundles', total):
            benchmark = StreamBenchmark(
                each,
                create_encoder(
                    each.model.backbone, runtime=runtime, device=device, bundle=each.path
                ),
                cameras=cameras,
                order_evidence=order_evidence,
                memory_budget=MEMORY_BUDGET if memory_budget is None else memory_budget,
            )
            rows.append(benchmark.run(turns))
            if json_file is not None:  # after each row: a later failure must not lose it
                content['rows'] = [row.as_dict() for row in rows]
                write_json(json_file, content)
    except (BundleError, FileNotFoundError, ValueError, WeightsError) as error:
        print_error(open_console(stderr=True), error)
        raise typer.Exit(1) from error
    finally:
        if rows:
            typer.echo(stream_table(rows))
            for runtime in {row.details['runtime']: None for row in rows}:
                typer.echo(f'encoder: {runtime}')

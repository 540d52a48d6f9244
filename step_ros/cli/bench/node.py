# SPDX-License-Identifier: Apache-2.0
"""`step_ros bench node`: latency and load of the perception node, over real DDS."""

from functools import partial
from typing import Annotated

import typer

from step_ros.cli.common import (
    LOGS,
    SHIPPED,
    BundleName,
    Device,
    Height,
    JsonFile,
    Logs,
    Runtime,
    Width,
    isolate,
    open_console,
    report_errors,
    require_ros,
)

CAMERAS = (1, 4, 8)
RATES = (15.0, 30.0, 60.0)


def node(
    bundle: BundleName = SHIPPED,
    cameras: Annotated[
        list[int] | None, typer.Option(min=1, help='Numbers of cameras. Default: 1, 4 and 8.')
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(min=0.1, help='Images per second of each camera. Default: 15, 30 and 60.'),
    ] = None,
    # The shipped bundle gives five hypotheses a second: with fewer than 100, p99 is the maximum.
    seconds: Annotated[
        float,
        typer.Option(min=1, help='Measured time of each combination, without the first windows.'),
    ] = 20.0,
    width: Width = 640,
    height: Height = 480,
    search: Annotated[
        bool, typer.Option(help='Also search for the highest rate of grid frames.')
    ] = True,
    search_cameras: Annotated[
        int, typer.Option(min=1, help='Cameras that share the grid frames of the search.')
    ] = 4,
    search_seconds: Annotated[
        float, typer.Option(min=1, help='Measured time of each try of the search.')
    ] = 8.0,
    search_steps: Annotated[
        int, typer.Option(min=0, help='How often the search halves its range.')
    ] = 4,
    search_tries: Annotated[
        int,
        typer.Option(min=1, help='How often to try a rate at most, until two steady tries agree.'),
    ] = 5,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help='Processor threads of the model. Default: as in the node.'),
    ] = None,
    device: Device = 'auto',
    runtime: Runtime = 'auto',
    logs: Logs = LOGS,
    json_file: JsonFile = None,
) -> None:
    """Measure the node: publisher process, DDS, node process, DDS, subscriber.

    Latency runs from an image's stamp, set when it is published, to the arrival of its hypothesis.
    The search shortens the frame period of a copy of the bundle until the node loses more than 5 %
    of the grid frames. It gives that rate as a share of the recogniser's own rate, without ROS.
    """
    import torch

    from step_ros.benchmarks.recogniser_rate import bundle_digests
    from step_ros.encoders.factory import create_encoder
    from step_ros.model.bundle import load_bundle
    from step_ros.reporting.machine import machine, write_json
    from step_ros.reporting.progress import track
    from step_ros.resources import find_bundle
    from step_ros.streaming.recogniser import StreamingRecogniser
    from step_ros.streaming.threads import start_encoder

    console = open_console(stderr=True)
    with require_ros(console, 'step_ros bench node'):
        from step_ros.ros.benchmarks.node import (
            NodeBenchmark,
            NodePlan,
            node_table,
            requirements_table,
            search_table,
        )
        from step_ros.ros.processes import NodeError

    isolate()
    plan = NodePlan(
        cameras=sorted(cameras or CAMERAS),
        rates=sorted(rate or RATES),
        seconds=seconds,
        size=(width, height),
        search_cameras=search_cameras,
        search_seconds=search_seconds,
        search_steps=search_steps,
        search_tries=search_tries,
    )
    with report_errors(console, NodeError):
        logs.mkdir(parents=True, exist_ok=True)
        model = load_bundle(find_bundle(bundle))
        encoder = start_encoder(
            threads or 0,
            partial(
                create_encoder,
                model.model.backbone,
                runtime=runtime,
                device=device,
                bundle=model.path,
            ),
            partial(StreamingRecogniser, model),
        )
        # The node must run the choices made here: `auto`, measured twice, may choose differently.
        parameters = {
            'device': device,
            'runtime': encoder.runtime if runtime == 'auto' else runtime,
            'threads': torch.get_num_threads(),
        }
        benchmark = NodeBenchmark(
            plan,
            bundle=model,
            encoder=encoder,
            parameters=parameters,
            folder=logs,
        )
        result = benchmark.result

        def write() -> None:
            if json_file is not None:
                about = {'machine': machine(), 'bundle': bundle_digests(model)}
                plans = {'plan': vars(plan), 'parameters': parameters}
                encoders = {'encoder': encoder.description}
                write_json(json_file, {**about, **plans, **encoders, **result.as_dict()})

        try:
            total = len(plan.cameras) * len(plan.rates)
            for _ in track(benchmark.run(), 'cameras and rates', total):
                write()  # after each row: a later failure must not lose it
            if search:
                with console.status('searching for the highest rate'):
                    benchmark.search()
                write()
        finally:
            typer.echo(f'encoder: {encoder.description}\n')
            if result.rows:
                typer.echo(node_table(result.rows))
            if result.search is not None:
                typer.echo('\n' + search_table(result.search))
            if result.requirements:
                typer.echo('\n' + requirements_table(result.requirements))

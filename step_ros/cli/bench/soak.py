# SPDX-License-Identifier: Apache-2.0
"""`step_ros bench soak`: minutes of camera restarts, gaps and clock jumps."""

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
    print_text,
    report_errors,
    require_ros,
)


def soak(
    minutes: Annotated[float, typer.Option(min=0.01, help='Length of the run in minutes.')] = 10.0,
    bundle: BundleName = SHIPPED,
    cameras: Annotated[int, typer.Option(min=1, help='Number of cameras.')] = 4,
    rate: Annotated[float, typer.Option(min=0.1, help='Images per second of each camera.')] = 30.0,
    width: Width = 640,
    height: Height = 480,
    device: Device = 'auto',
    runtime: Runtime = 'auto',
    logs: Logs = LOGS,
    json_file: JsonFile = None,
) -> None:
    """Run the node for minutes: memory must not grow, and no image may be unaccounted for.

    If a condition does not hold, print it and exit with 1.
    """
    from step_ros.benchmarks.recogniser_rate import bundle_digests
    from step_ros.model.bundle import load_bundle
    from step_ros.reporting.machine import machine, write_json
    from step_ros.resources import find_bundle

    console = open_console(stderr=True)
    with require_ros(console, 'step_ros bench soak'):
        from step_ros.ros.benchmarks.soak import (
            SoakBenchmark,
            SoakPlan,
            conditions_table,
            frames_table,
        )
        from step_ros.ros.processes import NodeError

    isolate()
    with report_errors(console, NodeError):
        logs.mkdir(parents=True, exist_ok=True)
        plan = SoakPlan(seconds=60 * minutes, cameras=cameras, rate=rate, size=(width, height))
        model = load_bundle(find_bundle(bundle))
        benchmark = SoakBenchmark(
            plan,
            bundle=model.path.resolve(),
            folder=logs,
            parameters={'device': device, 'runtime': runtime},
        )
        with console.status(f'{minutes:g} minutes'):
            result = benchmark.run()
    typer.echo(frames_table(result) + '\n\n' + conditions_table(result))
    if json_file is not None:
        about = {'machine': machine(), 'bundle': bundle_digests(model)}
        write_json(json_file, {**about, **result.as_dict()})
    failed = [condition for condition in result.conditions() if not condition.passed]
    for condition in failed:
        print_text(console, f'does not hold: {condition.what}: {condition.found}', 'red')
    if failed:
        raise typer.Exit(1)

# SPDX-License-Identifier: Apache-2.0
"""`step_ros bench runtimes`: time of the encoder in each runtime on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from step_ros.cli.common import SHIPPED, JsonFile, Threads, open_console, report_errors

if TYPE_CHECKING:
    from step_ros.model.backbone import Backbone

DEFAULT_BACKBONES = ('vit_small_patch14_dinov2',)


def runtimes(
    bundle: Annotated[
        list[str] | None,
        typer.Option(help='Bundles: folders, or names of shipped ones. Default: tabletop-tiny.'),
    ] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(help='Backbones with random weights: names of timm. Default: DINOv2-S.'),
    ] = None,
    image_size: Annotated[
        int, typer.Option(min=1, help='Side of the images of these backbones, in pixels.')
    ] = 224,
    threads: Threads = None,
    json_file: JsonFile = None,
) -> None:
    """Measure the encoder for one image in every runtime, and compare the tokens.

    Times are the shortest of several calls. Differences are from eager torch in float32 on the
    CPU. Without --bundle and --backbone: the shipped bundle, and DINOv2-S with random weights.
    """
    import torch

    from step_ros.benchmarks.encoders import RuntimeCost, markdown_rows, measure_runtimes
    from step_ros.reporting.machine import machine, write_json

    if threads is not None:
        torch.set_num_threads(threads)
    if bundle is None and backbone is None:
        bundle, backbone = [SHIPPED], list(DEFAULT_BACKBONES)
    rows: list[RuntimeCost] = []
    try:
        with report_errors(open_console(stderr=True)):
            for each, folder in _backbones(bundle or [], backbone or [], image_size):
                rows += measure_runtimes(each, bundle=folder)
    finally:
        if rows:
            typer.echo(markdown_rows(rows))
    if json_file is not None:
        content = {'machine': machine(), 'rows': [row.as_dict() for row in rows]}
        write_json(json_file, content)


def _backbones(
    bundles: list[str], names: list[str], image_size: int
) -> 'Iterator[tuple[Backbone, Path | None]]':
    """Yield the backbones: those of bundles with the bundle's folder, others with None."""
    from step_ros.model.backbone import create_backbone
    from step_ros.model.bundle import load_bundle
    from step_ros.resources import find_bundle

    for name in bundles:
        loaded = load_bundle(find_bundle(name))
        yield loaded.model.backbone, loaded.path
    size = (image_size, image_size)
    for name in names:
        yield create_backbone(name, weights='random', image_size=size), None

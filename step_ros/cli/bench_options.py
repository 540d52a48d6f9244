"""Options that several benchmarks take."""

from pathlib import Path
from typing import Annotated

import typer

JsonFile = Annotated[
    Path | None, typer.Option('--json', help='Write machine, configuration and figures here.')
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Processor threads of torch; else torch's own choice.")
]
BundleName = Annotated[str, typer.Option(help='Bundle: a folder, or the name of a shipped one.')]
Device = Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')]
Runtime = Annotated[str, typer.Option(help="The encoder's: auto, torch, openvino or onnx.")]
Logs = Annotated[Path, typer.Option(help="Folder for the processes' logs.")]
Width = Annotated[int, typer.Option(min=1, help='Width of the images in pixels.')]
Height = Annotated[int, typer.Option(min=1, help='Height of the images in pixels.')]

SHIPPED = 'tabletop-tiny'
LOGS = Path('demo_output/bench')

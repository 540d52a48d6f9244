# SPDX-License-Identifier: Apache-2.0
"""Times of the encoder in each runtime, and the difference of its tokens to torch in float32."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from step_ros.encoders.base import Encoder, TorchEncoder
from step_ros.encoders.exported import EXPORTS
from step_ros.encoders.factory import INT8, PRECISIONS, RUNTIMES, create_encoder, milliseconds
from step_ros.model.backbone import Backbone
from step_ros.reporting.markdown import figures_table

COLUMNS = (
    *('backbone', 'runtime', 'device', 'precision', 'ms', 'ms_of_four', 'ratio'),
    *('max_abs_diff', 'note'),
)
# The reference: torch without compilation, in float32 on the CPU.
EAGER = 'torch (eager)'
# Number of images for the comparison of tokens, and for the batch of `ms_of_four`.
IMAGES = 4
# Rounds of a measurement, see `milliseconds`.
ROUNDS = 7


@dataclass(frozen=True, kw_only=True)
class RuntimeCost:
    """Time and accuracy of one backbone in one runtime.

    Attributes:
        backbone: timm's name of the architecture.
        digest: Digest of the weights.
        image_size: Height and width in pixels.
        runtime: The requested runtime.
        device: The device.
        precision: Number format of the computation.
        note: Description of the encoder, or the reason why the runtime does not run.
        ms: Milliseconds for one image, the shortest of several; None if it does not run.
        ms_of_four: Milliseconds per image in a batch of four.
        ratio: Speed relative to eager torch in float32 on the CPU.
        max_abs_diff: Greatest absolute difference of a token's channel from eager torch.
    """

    backbone: str
    digest: str
    image_size: tuple[int, int]
    runtime: str
    device: str
    precision: str
    note: str
    ms: float | None = None
    ms_of_four: float | None = None
    ratio: float | None = None
    max_abs_diff: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON."""
        return asdict(self)


def measure_runtimes(backbone: Backbone, *, bundle: Path | None = None) -> Iterator[RuntimeCost]:
    """Yield the cost of a backbone in every runtime and precision, one after the other.

    A runtime that does not run here gets a row without times; `note` has the reason.

    Args:
        backbone: The frozen encoder.
        bundle: Folder of the bundle, which may hold an exported encoder.
    """
    random = np.random.default_rng(1)
    images = [
        random.integers(0, 256, (*backbone.image_size, 3), dtype=np.uint8) for _ in range(IMAGES)
    ]
    eager = TorchEncoder(backbone, device=torch.device('cpu'))
    times = _times(eager, backbone)
    eager_ms = times['ms']
    expected_bnd = eager.encode(images)
    yield _row(backbone, EAGER, eager, **times, ratio=1.0, max_abs_diff=0.0)
    for runtime, device, precision in _choices(bundle):
        encoder = create_encoder(
            backbone, runtime=runtime, device=device, precision=precision, bundle=bundle
        )
        if encoder.runtime != runtime.partition('-')[0] or encoder.device.type != device:
            # The factory fell back to another runtime or device.
            row = _row(backbone, runtime, encoder)
            yield replace(row, device=device, precision=precision)
            continue
        times = _times(encoder, backbone)
        difference = float((encoder.encode(images).cpu() - expected_bnd).abs().max())
        ratio = eager_ms / times['ms']
        yield _row(backbone, runtime, encoder, **times, ratio=ratio, max_abs_diff=difference)


def markdown_rows(rows: Sequence[RuntimeCost]) -> str:
    """Return the rows as a Markdown table."""
    return figures_table(
        COLUMNS,
        [
            [
                *(row.backbone, row.runtime, row.device, row.precision),
                '-' if row.ms is None else f'{row.ms:.2f}',
                '-' if row.ms_of_four is None else f'{row.ms_of_four:.2f}',
                '-' if row.ratio is None else f'{row.ratio:.1f}',
                '-' if row.max_abs_diff is None else f'{row.max_abs_diff:.0e}',
                row.note,
            ]
            for row in rows
        ],
    )


def _times(encoder: Encoder, backbone: Backbone) -> dict[str, float]:
    size = backbone.image_size
    (ms,) = milliseconds([encoder], image_size=size, rounds=ROUNDS)
    (of_four,) = milliseconds([encoder], image_size=size, rounds=ROUNDS, batch=IMAGES)
    return {'ms': ms, 'ms_of_four': of_four}


def _choices(bundle: Path | None) -> list[tuple[str, str, str]]:
    """Return runtime, device and precision of all combinations that may run here."""
    found: list[tuple[str, str, str]] = [
        (runtime, 'cpu', precision)
        for runtime in RUNTIMES
        for precision in PRECISIONS.get(runtime, ())
    ]
    if torch.cuda.is_available():
        found += [('torch', 'cuda', precision) for precision in PRECISIONS['cuda']]
    if bundle is not None and (bundle / EXPORTS / INT8).is_dir():
        found.append((INT8, 'cpu', 'auto'))
    return found


def _row(backbone: Backbone, runtime: str, encoder: Encoder, **measured: float) -> RuntimeCost:
    return RuntimeCost(
        backbone=backbone.name,
        digest=backbone.digest,
        image_size=backbone.image_size,
        runtime=runtime,
        device=str(encoder.device),
        precision=encoder.precision,
        note=encoder.description,
        **measured,
    )

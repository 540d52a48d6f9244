# SPDX-License-Identifier: Apache-2.0
"""Export of a bundle's encoder for another runtime, exact or quantised to int8.

`export_bundle` writes the encoder. `measure_cost` records the accuracy and time of a quantised
encoder beside those of the exact one.
"""

import contextlib
import logging
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch

from step_ros.encoders.base import Encoder, EncoderError, TorchEncoder
from step_ros.encoders.exported import (
    MAIN_FILES,
    ExportedEncoder,
    Format,
    load_export,
    record_measured,
    save_export,
)
from step_ros.encoders.factory import create_encoder, install_hint, milliseconds
from step_ros.encoders.onnx import export_encoder, export_heads
from step_ros.encoders.openvino import convert_backbone, load_openvino
from step_ros.files import replace_folder
from step_ros.model.bundle import Bundle, BundleError
from step_ros.model.tokens import check_choice
from step_ros.reporting.progress import track
from step_ros.training.calibration import Calibration
from step_ros.training.config import CacheRecipe
from step_ros.training.evaluate import evaluate_bundle

HEADS_FILE = 'heads.onnx'

# Beginnings of the names of an export's files.
_PREFIXES = ('encoder.', 'heads.')

# Packages whose versions change an export.
_PACKAGES = ('torch', 'timm', 'openvino', 'nncf', 'onnx', 'onnxscript')

# Metrics of `task_metrics` that are compared between precisions.
METRICS = ('top1', 'symmetric_top1', 'within_pair')

EXACT = 'float32'


def export_bundle(
    bundle: Bundle, folder: Path, *, runtime: str, calibration: Calibration | None = None
) -> ExportedEncoder:
    """Write a bundle's encoder for a runtime; for ONNX, its heads too.

    Args:
        bundle: The bundle.
        folder: Folder to write; an earlier export there is replaced.
        runtime: `openvino` or `onnx`.
        calibration: Frames to quantise the encoder to int8 with; None exports it in float32.

    Raises:
        BundleError: The folder holds other files; they stay as they are.
        EncoderError: A package that the runtime needs is not installed; names it.
        ValueError: The runtime is unknown or has no int8, or as in `Calibration.images`.
        VideoError: As in `Calibration.images`.
    """
    check_choice('format', runtime, Format)
    if calibration is not None and runtime != 'openvino':
        raise ValueError(f'int8 is made for openvino alone, not for {runtime}')
    foreign = [path.name for path in folder.glob('*') if not path.name.startswith(_PREFIXES)]
    if foreign:
        raise BundleError(
            folder, '', f'expected an empty folder or an earlier export; it holds {foreign[0]}'
        )
    about: dict[str, Any] = {'made_with': _versions()}
    with replace_folder(folder) as partial:
        try:
            if runtime == 'onnx':
                _write_onnx(bundle, partial)
            else:
                about |= _write_openvino(bundle, partial, calibration)
        except ImportError as error:
            raise EncoderError(f'{error}; {install_hint(runtime)}') from error
        save_export(partial, bundle.model.backbone, runtime=cast('Format', runtime), **about)
        shutil.rmtree(folder, ignore_errors=True)
    return load_export(folder, bundle.model.backbone)


def _write_onnx(bundle: Bundle, folder: Path) -> None:
    export_encoder(bundle.model.backbone, folder / MAIN_FILES['onnx'])
    export_heads(bundle.model, folder / HEADS_FILE, frames=bundle.spec.frames)


def _write_openvino(
    bundle: Bundle, folder: Path, calibration: Calibration | None
) -> dict[str, Any]:
    """Write the encoder; return the fields of `ExportSpec` about its precision."""
    about: dict[str, Any] = {}
    model = convert_backbone(bundle.model.backbone)
    if calibration is not None:
        images_bhw3 = calibration.images(bundle)
        model = quantise(model, images_bhw3)
        source = calibration.folder.name if calibration.folder else 'tabletop'
        about = {
            'precision': 'int8',
            'calibration': {'source': source, 'frames': len(images_bhw3)},
        }
    load_openvino().save_model(model, folder / MAIN_FILES['openvino'], compress_to_fp16=False)
    return about


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def quantise(model: Any, images_bhw3: np.ndarray) -> Any:
    """Quantise a converted backbone to int8 after training, with NNCF.

    Activations and weights of matrix products become int8. Operations that lose accuracy in int8,
    for example softmax and norms, stay in float (NNCF's scheme for transformers).

    Args:
        model: An `openvino.Model` of one image, see `convert_backbone`.
        images_bhw3: Images on which NNCF finds the ranges of activations.

    Raises:
        ImportError: NNCF is not installed.
    """
    load_openvino()
    import nncf

    nncf.set_log_level(logging.ERROR)
    images = nncf.Dataset(list(images_bhw3), lambda image_hw3: image_hw3[None])
    return nncf.quantize(
        model,
        images,
        subset_size=len(images_bhw3),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
    )


def measure_cost(
    bundle: Bundle,
    exported: ExportedEncoder,
    dataset: str,
    root: Path,
    *,
    options: Mapping[str, str] | None = None,
    cache: CacheRecipe | None = None,
) -> ExportedEncoder:
    """Measure accuracy and time of an exported encoder and of torch in float32, and record them.

    Args:
        bundle: The bundle.
        exported: The export of its encoder.
        dataset: Name of a dataset, see `read_dataset`; its test clips are used.
        root: Folder of the dataset.
        options: Options of its reader.
        cache: Folder and format of the tokens; None for the defaults.

    Returns:
        The exported encoder. Its `measured` has `dataset`; `clips`; `threads`; `ms`: milliseconds
        for an image by precision, both by the export's runtime; `accuracy`: task to metric to
        value by precision.

    Raises:
        EncoderError: The exported encoder does not run on this machine.
        FitError: As in `evaluate_bundle`.
    """
    backbone = bundle.model.backbone
    encoder = create_encoder(backbone, runtime=str(exported.path), device='cpu')
    if encoder.precision != exported.spec.precision:
        raise EncoderError(f'{exported.path} does not run on this machine: {encoder.description}')
    encoders: dict[str, Encoder] = {
        EXACT: TorchEncoder(backbone, device=torch.device('cpu')),
        encoder.precision: encoder,
    }
    found = {
        precision: evaluate_bundle(
            bundle, dataset, root, options=options or {}, cache=cache, encoder=each
        )
        for precision, each in encoders.items()
    }
    correct = {precision: scores['orders']['correct'] for precision, scores in found.items()}
    exact = create_encoder(backbone, runtime=exported.spec.format, device='cpu')
    ms = milliseconds([exact, encoder], image_size=backbone.image_size)
    measured = {
        'dataset': found[EXACT]['dataset'],
        'clips': found[EXACT]['clips'],
        'threads': torch.get_num_threads(),
        'ms': {precision: round(each, 2) for precision, each in zip(encoders, ms, strict=True)},
        'accuracy': {
            task: {
                metric: {precision: scores[task][metric] for precision, scores in correct.items()}
                for metric in METRICS
                if metric in scores_of_task
            }
            for task, scores_of_task in correct[EXACT].items()
        },
    }
    return record_measured(exported, measured)


def measure_cost_on_tabletop(
    bundle: Bundle, exported: ExportedEncoder, *, clips: int
) -> ExportedEncoder:
    """Do as `measure_cost`, on test clips of the tabletop that are rendered for it.

    Args:
        bundle: The bundle.
        exported: The export of its encoder.
        clips: Clips of each action.
    """
    # Imported here: other datasets need no simulator.
    from step_ros.tabletop.dataset import Rendering, render_dataset

    height, width = bundle.model.backbone.image_size
    with TemporaryDirectory() as folder:
        root = Path(folder) / 'tabletop'
        render_dataset(
            root,
            Rendering(clips={'test': clips}, size=(width, height)),
            progress=lambda paths, total: track(paths, 'render test clips', total),
        )
        cache = CacheRecipe(folder=Path(folder) / 'cache')
        return measure_cost(bundle, exported, 'tabletop', root, cache=cache)

"""Export a bundle's encoder for a runtime, as it is or quantised to int8."""

import contextlib
import logging
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from step_ros.data.calibration_frames import tabletop_frames, video_frames
from step_ros.data.tabletop_actions import TASKS
from step_ros.model.bundle import Bundle
from step_ros.model.bundle_files import BundleError
from step_ros.model.tokens import check_choice
from step_ros.stream.batches import EncoderError
from step_ros.stream.exported_encoder import (
    MAIN_FILES,
    ExportedEncoder,
    Format,
    load_export,
    save_export,
)
from step_ros.stream.onnx_encoder import export_encoder, export_heads
from step_ros.stream.openvino_encoder import convert_backbone, load_openvino
from step_ros.stream.preprocess import fit_images
from step_ros.stream.runtimes import install_hint

# NNCF's own default; more hardly change the ranges that are found.
CALIBRATION_FRAMES = 300
HEADS_FILE = 'heads.onnx'
# How the files of an export begin.
_OURS = ('encoder.', 'heads.')
# Packages whose versions an export depends on.
_MAKERS = ('torch', 'timm', 'openvino', 'nncf', 'onnx', 'onnxscript')


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a quantised encoder is calibrated on.

    Attributes:
        folder: With videos of what the cameras will see; None for the rendered tabletop.
        frames: How many frames.
    """

    folder: Path | None = None
    frames: int = CALIBRATION_FRAMES

    def images(self, bundle: Bundle) -> np.ndarray:
        """Return the frames as the bundle's encoder sees them, uint8 RGB `[b, h, w, 3]`.

        Raises:
            ValueError: The tabletop is not what this bundle knows.
            VideoError: The folder has no videos, or one cannot be read.
        """
        size = bundle.model.backbone.image_size
        if self.folder is not None:
            return fit_images(video_frames(self.folder, self.frames), size)
        if not knows_the_tabletop(bundle):
            raise ValueError(
                f'{bundle.path}: its tasks are not those of the tabletop; give a folder with '
                'videos of what its cameras will see (--calibration FOLDER)'
            )
        return fit_images(tabletop_frames(self.frames, size=size), size)


def knows_the_tabletop(bundle: Bundle) -> bool:
    """Whether a bundle decides the tabletop's own tasks."""
    return all(TASKS.get(task.name) == task.labels for task in bundle.spec.tasks)


def export_bundle(
    bundle: Bundle, folder: Path, *, runtime: str, calibration: Calibration | None = None
) -> ExportedEncoder:
    """Write a bundle's encoder for a runtime; for ONNX, its heads too.

    Args:
        bundle: The model.
        folder: Where to; an earlier export there is replaced.
        runtime: Which runtime loads it: `openvino` or `onnx`.
        calibration: Quantise to int8 with these images; None: exact.

    Raises:
        BundleError: The folder holds something else; it is left as it is.
        EncoderError: A package that this takes is not installed; names it.
        ValueError: The runtime is unknown or has no int8, or as in `Calibration`.
        VideoError: As in `Calibration`.
    """
    check_choice('format', runtime, Format)
    if calibration is not None and runtime != 'openvino':
        raise ValueError(f'int8 is made for openvino alone, not for {runtime}')
    foreign = [path.name for path in folder.glob('*') if not path.name.startswith(_OURS)]
    if foreign:
        raise BundleError(folder, '', f'expected a folder for this alone; it holds {foreign[0]}')
    about: dict[str, Any] = {'made_with': _versions()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all.
    with TemporaryDirectory(dir=folder.parent, prefix='unfinished-') as unfinished:
        path = Path(unfinished) / folder.name
        path.mkdir()
        try:
            if runtime == 'onnx':
                _write_onnx(bundle, path)
            else:
                about |= _write_openvino(bundle, path, calibration)
        except ImportError as error:
            raise EncoderError(f'{error}; {install_hint(runtime)}') from error
        save_export(path, bundle.model.backbone, runtime=cast('Format', runtime), **about)
        shutil.rmtree(folder, ignore_errors=True)
        path.replace(folder)
    return load_export(folder, bundle.model.backbone)


def _write_onnx(bundle: Bundle, folder: Path) -> None:
    export_encoder(bundle.model.backbone, folder / MAIN_FILES['onnx'])
    export_heads(bundle.model, folder / HEADS_FILE, frames=bundle.spec.frames)


def _write_openvino(
    bundle: Bundle, folder: Path, calibration: Calibration | None
) -> dict[str, Any]:
    """Write the encoder; return what `ExportSpec` is to say about it."""
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


def quantise(model: Any, images_bhw3: np.ndarray) -> Any:
    """Quantise a converted backbone to int8 after training, with NNCF.

    Activations and weights of matrix products become int8; what suffers by it, such as softmax and
    norms, stays as it was (NNCF's scheme for transformers).

    Args:
        model: An `openvino.Model` of one image, see `convert_backbone`.
        images_bhw3: What the ranges of activations are found on.

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


def _versions() -> dict[str, str]:
    found = {}
    for package in _MAKERS:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found

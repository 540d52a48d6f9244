"""Export a bundle's encoder for a runtime, as it is or quantised to int8."""

import contextlib
import logging
import mimetypes
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
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
from step_ros.images.resize import fit_images
from step_ros.io.video import VideoError, VideoReader
from step_ros.model.bundle import Bundle, BundleError
from step_ros.model.tokens import check_choice
from step_ros.reporting.progress import track
from step_ros.tabletop.dataset import Rendering, render_dataset
from step_ros.tabletop.geometry import CAMERA_NAMES
from step_ros.tabletop.simulator import Tabletop
from step_ros.tabletop.vocabulary import TASKS
from step_ros.training.config import CacheRecipe
from step_ros.training.evaluate import evaluate_bundle

# ---- Frames that show what an encoder usually sees, to calibrate a quantised one on.

# Seconds of a scene that frames are drawn from, and frames of each scene.
_SPAN, _PER_SCENE = 60.0, 10


def tabletop_frames(count: int, *, size: tuple[int, int]) -> list[np.ndarray]:
    """Render frames of the tabletop's training scenes, its cameras taking turns.

    Args:
        count: How many.
        size: Height and width in pixels.

    Returns:
        uint8 RGB images, the same every time.
    """
    images: list[np.ndarray] = []
    seed = 0
    while len(images) < count:
        scene = Tabletop(seed=seed, split='train')
        times = np.random.default_rng(seed).uniform(0.0, _SPAN, _PER_SCENE)
        camera = CAMERA_NAMES[seed % len(CAMERA_NAMES)]
        images += [scene.render(float(time), camera=camera, size=size[::-1]) for time in times]
        seed += 1
    return images[:count]


def video_frames(folder: Path, count: int) -> list[np.ndarray]:
    """Read frames at equal distances from all videos in a folder, and those below it.

    Args:
        folder: Files that are no videos by their name are passed over.
        count: How many frames at most; short videos may give fewer.

    Returns:
        uint8 RGB images of the videos' own sizes.

    Raises:
        VideoError: There is no video, or one cannot be read.
    """
    videos = [path for path in sorted(folder.rglob('*')) if path.is_file() and _is_video(path)]
    if not videos:
        raise VideoError(folder, 'expected a folder with videos (.mp4, .avi, .mkv, ...)')
    if len(videos) > count:
        videos = [videos[index * len(videos) // count] for index in range(count)]
    images: list[np.ndarray] = []
    for index, path in enumerate(videos):
        share = (index + 1) * count // len(videos) - index * count // len(videos)
        images += _spread_frames(path, share)
    return images


def _is_video(path: Path) -> bool:
    return (mimetypes.guess_type(path.name)[0] or '').startswith('video/')


def _spread_frames(path: Path, count: int) -> list[np.ndarray]:
    images: list[np.ndarray] = []
    with VideoReader(path) as reader:
        times = [index * reader.duration_s / count for index in range(count)]
        for frame in reader:
            if len(images) == count:
                break
            if frame.time_s >= times[len(images)]:
                images.append(frame.to_rgb())
    return images


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


# ---- What a quantised encoder costs in accuracy, and what it saves in time.

# Of `task_metrics`, what is set side by side.
METRICS = ('top1', 'symmetric_top1', 'within_pair')

EXACT = 'float32'


def measure_cost(
    bundle: Bundle,
    exported: ExportedEncoder,
    dataset: str,
    root: Path,
    *,
    options: Mapping[str, str] | None = None,
    cache: CacheRecipe | None = None,
) -> ExportedEncoder:
    """Evaluate a bundle with torch in float32 and with an exported encoder, and write it down.

    Args:
        bundle: The model.
        exported: What was exported of it.
        dataset: A dataset, as `read_dataset` knows it; its test clips are used.
        root: Its folder.
        options: Its reader's options.
        cache: Where tokens are kept; None for the default.

    Returns:
        The exported encoder, whose `measured` says: `dataset`, `clips`; `ms`: milliseconds for an
        image, by precision, both by OpenVINO; `accuracy`: task to metric to value by precision.

    Raises:
        EncoderError: The exported encoder does not run here.
        FitError: As in `evaluate_bundle`.
    """
    backbone = bundle.model.backbone
    encoder = create_encoder(backbone, runtime=str(exported.path), device='cpu')
    if encoder.precision != exported.spec.precision:
        raise EncoderError(f'{exported.path} does not run here: {encoder.description}')
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
    """Do the same on test clips of the tabletop, rendered for it.

    Args:
        bundle: The model.
        exported: What was exported of it.
        clips: Clips of each action.
    """
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

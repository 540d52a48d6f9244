"""What a quantised encoder costs in accuracy, and what it saves in time."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from step_ros.data.tabletop_dataset import Rendering, render_dataset
from step_ros.model.bundle import Bundle
from step_ros.stream.batches import EncoderError
from step_ros.stream.encoder import Encoder, TorchEncoder
from step_ros.stream.exported_encoder import ExportedEncoder, record_measured
from step_ros.stream.runtimes import create_encoder, milliseconds
from step_ros.training.dataset_recipe import CacheRecipe
from step_ros.training.evaluate_bundle import evaluate_bundle
from step_ros.training.progress import track

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

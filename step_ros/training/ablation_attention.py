"""Where the pictured runs of an ablation look (STEP Fig. 5)."""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file

from step_ros.data.clip_record import ClipRecord
from step_ros.data.datasets import Dataset
from step_ros.model.backbone import Backbone
from step_ros.model.head import Head
from step_ros.model.heads import create_head
from step_ros.model.step import StepHead
from step_ros.reporting.confusion import save_picture
from step_ros.reporting.markdown import plain
from step_ros.stream.encoder import TorchEncoder
from step_ros.stream.grid import NANOSECONDS
from step_ros.training.ablate import HEADS, AblationResult
from step_ros.training.ablation_answers import PicturedAnswers
from step_ros.training.ablation_heads import average_of
from step_ros.training.attention_overlay import attention_sheet
from step_ros.training.dataset_model import load_backbone
from step_ros.training.dataset_tokens import Sampler
from step_ros.training.fit import Run

# Of the window, spread over it.
MOST_FRAMES = 6
MOST_WIDTH = 1200


def plot_attention(
    path: Path, result: AblationResult, runs: Sequence[PicturedAnswers], dataset: Dataset
) -> str | None:
    """Draw how much each patch of a window is looked at, a row for each run that can tell.

    The clip is not chosen by hand: it is the first test clip, by name, of the first label.

    Args:
        path: The PNG file to write.
        result: The ablation.
        runs: The runs; for one task.
        dataset: The clips.

    Returns:
        What the picture shows; None where no run has attention over patches, and no file.

    Raises:
        VideoError: The clip cannot be decoded any more.
    """
    backbone, _ = load_backbone(result.spec.recipe)
    loaded = [(run, _load_head(run, backbone)) for run in runs]
    looking = [(run, head) for run, head in loaded if isinstance(head, StepHead)]
    if not looking:
        return None
    clip = min(
        clip for clip, target in zip(runs[0].clips, runs[0].targets_c, strict=True) if target == 0
    )
    record = next(record for record in dataset.records if record.clip_id == clip)
    images_thw3 = _window(result, record, backbone)
    backbone.give('all' if backbone.has_cls else 'patches')
    x_btnd = TorchEncoder(backbone, device=torch.device('cpu')).encode(list(images_thw3))[None]
    strides = [len(images_thw3) // head.frames for _, head in looking]
    shown = np.arange(0, len(images_thw3), math.lcm(*strides))
    shown = shown[:: math.ceil(len(shown) / MOST_FRAMES)]
    maps, said = [], []
    for (run, head), stride in zip(looking, strides, strict=True):
        average = average_of(run.run.spec, backbone)
        heads = Run(heads={run.task: head}, how=run.run.spec.head, average=average)
        taken_btnd = heads.tokens_of(x_btnd, backbone.consumed)
        with torch.inference_mode():
            columns_tn = head.attention_maps(taken_btnd).columns_btn[0].numpy()
            answer = run.task_labels[int(head(taken_btnd).argmax())]
        maps.append(columns_tn[shown // stride].reshape(-1, *average.token_grid))
        said.append(f'{run.title} (answers *{plain(answer)}*)')
    sheet = attention_sheet(images_thw3[shown], *maps, image_size=backbone.image_size)
    save_picture(path, _narrow(sheet))
    return (
        f'Frames of *{plain(runs[0].labels[0])}*, the first such test clip by name; below them '
        f'how much each patch counts in the mean that is classified: {"; ".join(said)}.'
    )


def _load_head(run: PicturedAnswers, backbone: Backbone) -> Head:
    """Make a run's head as it was fitted."""
    spec = run.run.spec
    head = create_head(
        spec.head.name,
        width=backbone.width,
        frames=spec.frames,
        tokens=average_of(spec, backbone).tokens,
        classes=len(run.task_labels),
        **spec.head.options,
    )
    prefix = f'{run.task}/'
    tensors = load_file(run.run.folder / HEADS)
    head.load_state_dict(
        {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
    )
    return head.eval()


def _window(result: AblationResult, record: ClipRecord, backbone: Backbone) -> np.ndarray:
    """Load the middle one of the windows that a clip is tested on."""
    sampling = result.spec.recipe.sampling
    sampler = Sampler(
        frames=sampling.frames,
        frame_period_ns=round(result.frame_period * NANOSECONDS),
        size=backbone.image_size,
        views=sampling.test_views,
        kind=sampling.kind,
        crops=sampling.test_crops,
    )
    return sampler(record, sampling.test_views // 2)


def _narrow(image_hw3: np.ndarray) -> np.ndarray:
    height, width = image_hw3.shape[:2]
    if width <= MOST_WIDTH:
        return image_hw3
    size = (MOST_WIDTH, round(height * MOST_WIDTH / width))
    return cv2.resize(image_hw3, size, interpolation=cv2.INTER_AREA)

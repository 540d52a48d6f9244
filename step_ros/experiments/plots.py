# SPDX-License-Identifier: Apache-2.0
"""Plots of an ablation's runs: t-SNE, accuracy by label, by training clips, and attention maps."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import TABLEAU_COLORS
from matplotlib.figure import Figure
from safetensors.torch import load_file

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.registry import Dataset
from step_ros.encoders.base import TorchEncoder
from step_ros.experiments.predictions import PicturedPredictions
from step_ros.experiments.run import HEADS, AblationResult, average_of
from step_ros.experiments.spec import Column
from step_ros.experiments.tables import COUNTS, LOWER_IS_BETTER, figure_of, share_groups
from step_ros.model.backbone import Backbone
from step_ros.model.heads.base import Head
from step_ros.model.heads.registry import create_head, head_entry
from step_ros.model.heads.step import StepHead
from step_ros.reporting.confusion import save_figure, save_picture
from step_ros.reporting.markdown import plain
from step_ros.streaming.grid import NANOSECONDS
from step_ros.training.dataset_tokens import load_backbone
from step_ros.training.fit import FitRun
from step_ros.training.sampler import Sampler
from step_ros.visualization.attention_map import attention_sheet

# Points of a t-SNE plot; more take minutes and cannot be distinguished.
MOST_POINTS = 1500

PERPLEXITY = 30

HUES = tuple(TABLEAU_COLORS.values())

# Frames of an attention picture, spread over the window.
MOST_FRAMES = 6

# Width of an attention picture in pixels.
MOST_WIDTH = 1200


def plot_tsne(path: Path, runs: Sequence[PicturedPredictions]) -> None:
    """Draw the classifiers' inputs for nearly symmetric clips, by t-SNE (STEP Fig. 6).

    Counterparts share a hue. If the task has no pairs, all clips are drawn.

    Args:
        path: The PNG file to write.
        runs: Predictions of the runs for one task.
    """
    from sklearn.manifold import TSNE

    figure = Figure(figsize=(4.6 * len(runs) + 2.2, 4.6), layout='constrained')
    axes = figure.subplots(1, len(runs), squeeze=False)[0]
    for panel, run in zip(axes, runs, strict=True):
        chosen = np.flatnonzero(run.targets_c < (run.paired or len(run.labels)))
        chosen = chosen[:: -(-len(chosen) // MOST_POINTS)]
        tsne = TSNE(perplexity=min(PERPLEXITY, (len(chosen) - 1) / 3), init='pca', random_state=0)
        points_c2 = tsne.fit_transform(run.features_cd[chosen])
        _scatter(panel, points_c2, run, run.targets_c[chosen])
        panel.set_title(run.title, fontsize=11)
        panel.set_xticks([])
        panel.set_yticks([])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside right center', fontsize=8, frameon=False)
    save_figure(figure, path)


def plot_labels(path: Path, runs: Sequence[PicturedPredictions]) -> None:
    """Draw the accuracy of each nearly symmetric label, pair by pair (STEP Fig. 3).

    Args:
        path: The PNG file to write.
        runs: Predictions of the runs for one task that has pairs.
    """
    labels = runs[0].labels[: runs[0].paired]
    thickness = 0.8 / len(runs)
    figure = Figure(figsize=(8, 1.0 + 0.32 * len(labels)), layout='constrained')
    axes = figure.subplots()
    # Each pair is half a row apart from the next.
    rows = np.arange(len(labels)) + 0.5 * (np.arange(len(labels)) // 2)
    for number, run in enumerate(runs):
        shift = (number - (len(runs) - 1) / 2) * thickness
        axes.barh(
            rows + shift,
            100 * run.recall_k[: len(labels)],
            height=thickness,
            color=HUES[number % len(HUES)],
            label=run.title,
        )
    axes.set_yticks(rows, labels, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel('accuracy, %')
    axes.grid(axis='x', alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc='outside upper center', ncols=len(runs), frameon=False)
    save_figure(figure, path)


def plot_shares(path: Path, result: AblationResult, name: str) -> None:
    """Draw the accuracies of a table against the share of the training clips.

    Args:
        path: The PNG file to write.
        result: The ablation.
        name: Name of a table for which `has_shares` is true.
    """
    table = result.spec.tables[name]
    columns = [column for column in table.columns if _is_accuracy(column)]
    series = _series(result, name)
    figure = Figure(figsize=(3.6 * len(columns) + 0.6, 3.6), layout='constrained')
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for panel, column in zip(axes, columns, strict=True):
        for (title, keys), marker in zip(series.items(), _markers(len(series)), strict=True):
            points = sorted(
                (100 * table.rows[key].share, 100 * value)
                for key in keys
                if (value := figure_of(result, name, key, column)) is not None
            )
            panel.plot(*zip(*points, strict=True), marker=marker, label=title)
        shares = sorted({100 * row.share for row in table.rows.values()})
        panel.set_xscale('log')
        panel.set_xticks(shares, [f'{share:g}' for share in shares])
        panel.minorticks_off()
        panel.set_title(column.title, fontsize=11)
        panel.set_xlabel('training clips, %')
        panel.grid(alpha=0.3)
    axes[0].set_ylim(0, 102)
    axes[0].set_ylabel('%')
    axes[-1].legend(fontsize=8)
    save_figure(figure, path)


def has_shares(result: AblationResult, name: str) -> bool:
    """Return whether a table compares accuracies for several shares of the training clips."""
    table = result.spec.tables[name]
    several = len({share for share, _ in share_groups(table)}) > 1
    return several and any(_is_accuracy(column) for column in table.columns)


def plot_attention(
    path: Path, result: AblationResult, runs: Sequence[PicturedPredictions], dataset: Dataset
) -> str | None:
    """Draw the attention over the patches of a window, a row for each STEP run (STEP Fig. 5).

    The clip is not chosen by hand: it is the first test clip, by name, of the first label.

    Args:
        path: The PNG file to write.
        result: The ablation.
        runs: Predictions of the runs for one task.
        dataset: The dataset.

    Returns:
        Caption of the picture; None, and no file, if no run has attention over patches.

    Raises:
        VideoError: The clip cannot be decoded any more.
    """
    backbone, _ = load_backbone(result.spec.recipe)
    loaded = [(run, _load_head(run, backbone)) for run in runs]
    attending = [(run, head) for run, head in loaded if isinstance(head, StepHead)]
    if not attending:
        return None
    clip = min(
        clip for clip, target in zip(runs[0].clips, runs[0].targets_c, strict=True) if target == 0
    )
    record = next(record for record in dataset.records if record.clip_id == clip)
    images_thw3 = _window(result, record, backbone)
    backbone.give('all' if backbone.has_cls else 'patches')
    x_btnd = TorchEncoder(backbone, device=torch.device('cpu')).encode(list(images_thw3))[None]
    # A head of fewer frames takes every stride-th frame of the window. All heads share the frames
    # whose index is a multiple of every stride.
    strides = [len(images_thw3) // head.frames for _, head in attending]
    shown = np.arange(0, len(images_thw3), math.lcm(*strides))
    shown = shown[:: math.ceil(len(shown) / MOST_FRAMES)]
    maps, captions = [], []
    for (run, head), stride in zip(attending, strides, strict=True):
        average = average_of(run.run.spec, backbone)
        heads = FitRun(heads={run.task: head}, how=run.run.spec.head, average=average)
        taken_btnd = heads.tokens_of(x_btnd, backbone.consumed)
        with torch.inference_mode():
            columns_tn = head.attention_maps(taken_btnd).columns_btn[0].numpy()
            predicted = run.task_labels[int(head(taken_btnd).argmax())]
        maps.append(columns_tn[shown // stride].reshape(-1, *average.token_grid))
        captions.append(f'{run.title} (predicts *{plain(predicted)}*)')
    sheet = attention_sheet(images_thw3[shown], *maps, image_size=backbone.image_size)
    save_picture(path, _narrow(sheet))
    return (
        f'Frames of *{plain(runs[0].labels[0])}*, the first test clip of this label by name. '
        f'Below them the weight of each patch in the mean that is classified: '
        f'{"; ".join(captions)}.'
    )


def _scatter(
    panel: Axes, points_c2: np.ndarray, run: PicturedPredictions, targets_c: np.ndarray
) -> None:
    for place in np.unique(targets_c):
        pair = place // 2 if run.pairs else place
        second = bool(run.pairs) and place % 2 == 1
        hue = HUES[pair % len(HUES)]
        panel.scatter(
            points_c2[targets_c == place, 0],
            points_c2[targets_c == place, 1],
            s=18,
            marker='^' if second else 'o',
            facecolors='none' if second else hue,
            edgecolors=hue,
            linewidths=1.0,
            label=run.labels[place],
        )


def _is_accuracy(column: Column) -> bool:
    return column.metric not in (*COUNTS, *LOWER_IS_BETTER)


def _series(result: AblationResult, name: str) -> Mapping[str, list[str]]:
    """Return the rows that differ only in their share, by the common beginning of their titles."""
    table = result.spec.tables[name]
    groups: dict[str, list[str]] = {}
    for key in table.rows:
        run = result.run(name, key).spec
        groups.setdefault(run.model_copy(update={'share': 1.0}).key, []).append(key)
    series: dict[str, list[str]] = {}
    for keys in groups.values():
        titles = [table.rows[key].title for key in keys]
        title = _common_words(titles)
        if not title or title in series:
            title = f'{head_entry(result.run(name, keys[0]).spec.head.name).title} ({keys[0]})'
        series[title] = keys
    return series


def _common_words(titles: Sequence[str]) -> str:
    words = zip(*(re.findall(r'[^\s,;:()]+', title) for title in titles), strict=False)
    return ' '.join(same[0] for same in takewhile(lambda same: len(set(same)) == 1, words))


def _markers(count: int) -> str:
    return ('osD^vPX*' * (1 + count // 8))[:count]


def _load_head(run: PicturedPredictions, backbone: Backbone) -> Head:
    """Return the fitted head of a run."""
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
    """Return the images of the middle one of the windows that a clip is tested on."""
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
    """Return the image, shrunk to `MOST_WIDTH` if it is wider."""
    height, width = image_hw3.shape[:2]
    if width <= MOST_WIDTH:
        return image_hw3
    size = (MOST_WIDTH, round(height * MOST_WIDTH / width))
    return cv2.resize(image_hw3, size, interpolation=cv2.INTER_AREA)

# SPDX-License-Identifier: Apache-2.0
"""Draw confusion matrices, and write pictures as small PNG files."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

DPI = 100

# A palette needs a quarter of the bytes of full colour.
COLOURS = 256

# The labels of a larger confusion matrix are not readable.
MOST_LABELS = 40

# Cells of a larger confusion matrix have no room for numbers.
WRITTEN_LABELS = 20


@dataclass(frozen=True, kw_only=True)
class LabelledPredictions:
    """Predictions of one task for clips with known labels.

    Attributes:
        title: Title in a picture.
        labels: True labels that occur: nearly symmetric pairs side by side, then the others.
        pairs: The pairs, as indices into `labels`.
        targets_c: True labels, as indices into `labels`, `[clips]`.
        predicted_c: Predicted labels, as indices into `labels`, `[clips]`; -1 for other labels.
    """

    title: str
    labels: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    targets_c: np.ndarray
    predicted_c: np.ndarray

    @property
    def paired(self) -> int:
        """Number of labels with a counterpart; they come first in `labels`."""
        return 2 * len(self.pairs)

    @cached_property
    def confusion_kk(self) -> np.ndarray:
        """Share of each label's clips by predicted label; the last column is for other labels."""
        count = len(self.labels)
        matrix = np.zeros((count, count + 1))
        np.add.at(matrix, (self.targets_c, self.predicted_c), 1)
        shares_kk: np.ndarray = matrix / matrix.sum(axis=1, keepdims=True)
        return shares_kk

    @property
    def recall_k(self) -> np.ndarray:
        """Accuracy of each label."""
        return self.confusion_kk.diagonal()


def plot_confusion(path: Path, runs: Sequence[LabelledPredictions]) -> None:
    """Draw confusion matrices side by side, with a frame around each pair of counterparts.

    Args:
        path: The PNG file to write.
        runs: Predictions of one task, with the same labels.
    """
    count = min(len(runs[0].labels), MOST_LABELS)
    side = max(4.0, 0.3 * count)
    figure = Figure(figsize=(2.2 + side * len(runs), side + 2.2), layout='compressed')
    axes = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for panel, run in zip(axes, runs, strict=True):
        shown_kk = 100 * run.confusion_kk[:count, :count]
        panel.imshow(shown_kk, cmap='Blues', vmin=0, vmax=100, aspect='equal')
        if count <= WRITTEN_LABELS:
            _write_cells(panel, shown_kk)
        for one, other in run.pairs:
            if other < count:
                panel.add_patch(_frame(one))
        labels = run.labels[:count]
        panel.set_xticks(range(count), labels, rotation=90, fontsize=8)
        panel.set_yticks(range(count), labels, fontsize=8)
        panel.set_xlabel('predicted label')
        panel.set_title(f'{run.title}: {100 * _top1(run):.1f} %', fontsize=11)
    axes[0].set_ylabel('true label')
    save_figure(figure, path)


def _write_cells(panel: Axes, shown_kk: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(shown_kk):
        if value >= 0.5:
            colour = 'white' if value > 60 else 'black'
            panel.text(
                column, row, f'{value:.0f}', ha='center', va='center', fontsize=7, color=colour
            )


def _frame(place: int) -> Rectangle:
    return Rectangle((place - 0.5, place - 0.5), 2, 2, fill=False, edgecolor='tab:red')


def _top1(run: LabelledPredictions) -> float:
    return float((run.targets_c == run.predicted_c).mean())


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file of few colours and create its folder."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format='png', dpi=DPI, bbox_inches='tight', pad_inches=0.1)
    with Image.open(drawn) as image:
        save_picture(path, np.asarray(image.convert('RGB')))


def save_picture(path: Path, image_hw3: np.ndarray) -> None:
    """Write a picture as a PNG file of few colours; equal pictures give equal bytes.

    Args:
        path: The file; its folder is created.
        image_hw3: The picture, uint8 RGB.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The palette covers the range of colours, not their frequency, to keep the few bright spots
    # of a heat map.
    image = Image.fromarray(image_hw3).quantize(
        COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )
    image.save(path, format='PNG', optimize=True)


def paired_order(
    labels: Sequence[str], counterparts: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Return the labels with counterparts side by side, before all labels without one.

    Args:
        labels: The labels.
        counterparts: Nearly symmetric partner of a label, both ways.

    Returns:
        The ordered labels, and each pair as indices into them.
    """
    ordered: list[str] = []
    for label in labels:
        partner = counterparts.get(label)
        if partner in labels and label not in ordered:
            ordered += [label, str(partner)]
    pairs = tuple((place, place + 1) for place in range(0, len(ordered), 2))
    return (*ordered, *(label for label in labels if label not in ordered)), pairs

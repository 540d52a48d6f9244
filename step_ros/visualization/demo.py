# SPDX-License-Identifier: Apache-2.0
"""Pictures of `step_ros demo`: a frame with its hypothesis, and a timeline of hypotheses."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from step_ros.evaluation.ground_truth import Observation, Truth

PANEL_WIDTH = 360
# Least height of the panel: three tasks fit beside a small image.
PANEL_HEIGHT = 400
_TASK_HEIGHT = 125

_WHITE, _GREY, _DARK = (245, 245, 245), (150, 150, 150), (30, 32, 36)
_GREEN, _AMBER, _RED = (90, 200, 110), (240, 180, 60), (235, 90, 80)

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotate(
    image_hw3: np.ndarray, stamp_ns: int, seen: Observation | None, truth: Truth
) -> np.ndarray:
    """Return a frame with a panel of labels, scores, counterparts and order evidence beside it.

    Args:
        image_hw3: The frame, uint8 RGB.
        stamp_ns: Stamp of the frame.
        seen: The newest hypothesis at that time; None while the first window fills.
        truth: The true labels; may be empty.

    Returns:
        The frame with the panel on its right, uint8 RGB, of even height and width.
    """
    height = image_hw3.shape[0]
    panel = np.full((max(height, PANEL_HEIGHT), PANEL_WIDTH, 3), _DARK, dtype=np.uint8)
    if seen is None:
        _text(panel, 'filling the first window ...', 16, 36, 0.5, _GREY)
    else:
        step = max(_TASK_HEIGHT, (panel.shape[0] - 20) // max(1, len(seen.predictions)))
        for index, (task, prediction) in enumerate(seen.predictions.items()):
            top = 12 + index * step
            true = truth.at(task, stamp_ns)
            colour = _WHITE if not true else _GREEN if true == prediction.label else _RED
            _text(panel, task, 16, top + 12, 0.42, _GREY)
            _text(panel, f'{prediction.label}  {prediction.score:.2f}', 16, top + 34, 0.62, colour)
            _bar(panel, top + 42, prediction.score, colour)
            if prediction.counterpart:
                other = f'counterpart {prediction.counterpart}  {prediction.counterpart_score:.2f}'
                _text(panel, other, 16, top + 68, 0.42, _GREY)
                _bar(panel, top + 74, prediction.counterpart_score, _AMBER)
            _text(
                panel,
                f'order evidence {prediction.order_evidence:.2f}',
                16,
                top + 100,
                0.42,
                _GREY,
            )
            if true:
                _text(panel, f'truth: {true}', 16, top + 120, 0.42, _WHITE)
    rows = panel.shape[0]
    framed = cv2.copyMakeBorder(
        image_hw3, 0, rows - height, 0, 0, cv2.BORDER_CONSTANT, value=_DARK
    )
    joined = np.hstack([framed, panel])
    # Video codecs need even sizes.
    return joined[: rows // 2 * 2, : joined.shape[1] // 2 * 2]


def plot_timeline(
    path: Path, observations: Sequence[Observation], truth: Truth, *, title: str
) -> None:
    """Draw the true label and the best label of each task over time, as a PNG file.

    Bars are true labels and dots are best labels; a dot grows with its score.

    Args:
        path: The PNG file to write.
        observations: Hypotheses, oldest first; at least one.
        truth: The true labels; may be empty.
        title: Title of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import TABLEAU_COLORS
    from matplotlib.figure import Figure

    tasks = list(observations[0].predictions)
    zero_ns = observations[0].window_start_ns
    end_ns = observations[-1].stamp_ns
    times = [(seen.stamp_ns - zero_ns) / 1e9 for seen in observations]
    figure = Figure(figsize=(14, 2.6 * len(tasks) + 0.6), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(tasks), 1, sharex=True, squeeze=False)[:, 0]
    palette = list(TABLEAU_COLORS.values())
    for axis, task in zip(axes, tasks, strict=True):
        predictions = [seen.predictions[task] for seen in observations]
        segments = [
            segment
            for segment in truth.segments.get(task, [])
            if segment.start_ns < end_ns and (segment.end_ns or end_ns) > zero_ns
        ]
        seen_labels = [
            *(segment.label for segment in segments),
            *(prediction.label for prediction in predictions),
        ]
        labels = list(dict.fromkeys(seen_labels))
        rows = {label: len(labels) - 1 - index for index, label in enumerate(labels)}
        for segment in segments:
            start = max(segment.start_ns, zero_ns)
            stop = min(segment.end_ns or end_ns, end_ns)
            axis.broken_barh(
                [((start - zero_ns) / 1e9, (stop - start) / 1e9)],
                (rows[segment.label] - 0.42, 0.84),
                facecolors=palette[rows[segment.label] % len(palette)],
                alpha=0.3,
            )
        colours = []
        for seen, prediction in zip(observations, predictions, strict=True):
            label = truth.settled(task, seen.window_start_ns, seen.stamp_ns)
            colours.append(
                '0.45' if not label else '#1a7f37' if label == prediction.label else 'red'
            )
        axis.scatter(
            times,
            [rows[prediction.label] for prediction in predictions],
            s=[12 + 30 * prediction.score for prediction in predictions],
            c=colours,
            zorder=3,
        )
        axis.set_yticks(list(rows.values()), list(rows), fontsize=8)
        axis.set_ylim(-0.7, len(labels) - 0.3)
        axis.set_ylabel(task)
        axis.grid(axis='x', alpha=0.3)
    axes[-1].set_xlabel('seconds of camera time')
    figure.suptitle(
        f'{title}\nbars: truth; dots: best label (larger: surer); green right, red wrong, '
        'grey while the window spans two actions'
        if truth.segments
        else title
    )
    figure.savefig(path, dpi=100)


def _text(
    panel: np.ndarray, text: str, x: int, y: int, size: float, colour: tuple[int, int, int]
) -> None:
    cv2.putText(panel, text, (x, y), _FONT, size, colour, 1, cv2.LINE_AA)


def _bar(panel: np.ndarray, y: int, share: float, colour: tuple[int, int, int]) -> None:
    width = PANEL_WIDTH - 32
    cv2.rectangle(panel, (16, y), (16 + width, y + 8), (60, 64, 70), -1)
    cv2.rectangle(panel, (16, y), (16 + round(width * share), y + 8), colour, -1)

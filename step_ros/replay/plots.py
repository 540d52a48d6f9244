# SPDX-License-Identifier: Apache-2.0
"""Plots of replayed recordings: timelines of truth, best labels and events, and confusion."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from step_ros.model.bundle_schema import TaskSpec
from step_ros.replay.scores import Recording, pooled
from step_ros.reporting.confusion import (
    LabelledPredictions,
    paired_order,
    plot_confusion,
    save_figure,
)
from step_ros.streaming.grid import MAX_GAP_PERIODS, NANOSECONDS
from step_ros.streaming.postprocessing.events import EventType

# A longer recording is drawn in parts of this length, up to a number of parts.
PART_SECONDS = 30.0
MOST_PARTS = 20
# Width of a letter, as a share of the plot's width. A label that does not fit is left out.
_LETTER = 0.0052
_HUES = ('tab20', 'tab20b', 'tab20c')

# Start and end in seconds, label, and strength of the colour in [0, 1].
Bars = Sequence[tuple[float, float, str, float]]


def plot_replay_confusion(
    path: Path, recordings: Mapping[str, Sequence[Recording]], tasks: Mapping[str, TaskSpec]
) -> bool:
    """Draw the confusion matrix of each bundle for one task, at the newest frames.

    Args:
        path: The PNG file to write.
        recordings: The recordings, by the bundle's title.
        tasks: The task, by the bundle's title.

    Returns:
        Whether a file was written: False if no hypothesis has a true label.
    """
    found = {title: pooled(recordings[title], tasks[title]) for title in tasks}
    occurring = [
        label
        for task in tasks.values()
        for place, label in enumerate(task.labels)
        if any((found[title][1] == place).any() for title in tasks if tasks[title] is task)
    ]
    if not occurring:
        return False
    partners = {one: other for task in tasks.values() for one, other in task.counterparts.items()}
    labels, pairs = paired_order(list(dict.fromkeys(occurring)), partners)
    places = {label: number for number, label in enumerate(labels)}
    predictions = []
    for title, task in tasks.items():
        scores_hk, targets_h, _ = found[title]
        if len(targets_h):
            of_label = np.array([places.get(label, -1) for label in task.labels])
            predictions.append(
                LabelledPredictions(
                    title=title,
                    labels=labels,
                    pairs=pairs,
                    targets_c=of_label[targets_h],
                    predicted_c=of_label[scores_hk.argmax(axis=1)],
                )
            )
    plot_confusion(path, predictions)
    return True


def timeline_parts(recording: Recording) -> int:
    """Return the number of parts of a recording's timeline, at most `MOST_PARTS`."""
    predictions = recording.predictions
    seconds = (predictions.last_ns - predictions.first_ns) / NANOSECONDS
    return max(1, min(MOST_PARTS, int(np.ceil(seconds / PART_SECONDS))))


def plot_replay_timeline(
    path: Path,
    recordings: Mapping[str, Recording],
    tasks: Mapping[str, Sequence[TaskSpec]],
    *,
    part: int = 0,
) -> None:
    """Draw truth, best labels and events of one camera over time, bundle under bundle.

    Each label has one colour, which is stronger the higher the score. An event's bar runs from
    its START to its END; a triangle marks the time at which it was published.

    Args:
        path: The PNG file to write.
        recordings: The same recording with the predictions of each bundle, by the bundle's title.
        tasks: The tasks of each bundle, by the bundle's title.
        part: Which part of the recording, each `PART_SECONDS` long.
    """
    one = next(iter(recordings.values()))
    zero_ns = one.predictions.first_ns
    left = part * PART_SECONDS
    right = min(left + PART_SECONDS, (one.predictions.last_ns - zero_ns) / NANOSECONDS)
    names = list(dict.fromkeys(task.name for some in tasks.values() for task in some))
    lanes = 1 + 2 * len(recordings)
    figure = Figure(figsize=(14, 0.9 + len(names) * (0.5 + 0.34 * lanes)), layout='constrained')
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, names, strict=True):
        colours = _Colours(name, one, tasks)
        rows: list[str] = []
        truth = [
            (
                (segment.start_ns - zero_ns) / NANOSECONDS,
                ((segment.end_ns or one.predictions.last_ns) - zero_ns) / NANOSECONDS,
                segment.label,
                1.0,
            )
            for segment in one.truth.segments.get(name, ())
        ]
        _draw(axis, truth, len(rows), colours, (left, right), named=True)
        rows.append('truth')
        for title, recording in recordings.items():
            task = next((task for task in tasks[title] if task.name == name), None)
            if task is None:
                continue
            suffix = f', {title}' if len(recordings) > 1 else ''
            _draw(axis, _best_labels(recording, task), len(rows), colours, (left, right))
            rows.append(f'best label{suffix}')
            _draw(axis, _events(recording, name), len(rows), colours, (left, right), named=True)
            published = [
                (each.published_ns - zero_ns) / NANOSECONDS
                for each in recording.predictions.events
                if each.event.task == name and each.event.type is EventType.START
            ]
            axis.plot(
                published, [len(rows) + 0.34] * len(published), 'k^', markersize=5, clip_on=True
            )
            rows.append(f'events{suffix}')
        axis.set_yticks(range(len(rows)), rows, fontsize=8)
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_xlim(left, max(right, left + 0.1))
        axis.set_title(name, fontsize=10, loc='left')
        colours.legend(axis)
        axis.grid(axis='x', alpha=0.3)
    axes[-1].set_xlabel('seconds from the first image')
    save_figure(figure, path)


class _Colours:
    """A colour for each label of a task, the same in all plots of the same bundles."""

    def __init__(
        self, name: str, recording: Recording, tasks: Mapping[str, Sequence[TaskSpec]]
    ) -> None:
        all_colours = [colour for hue in _HUES for colour in colormaps[hue].colors]  # type: ignore[attr-defined]
        # Neighbours in these maps are shades of one hue, so every second colour comes first.
        self._all = [*all_colours[::2], *all_colours[1::2]]
        of_bundles = [
            label
            for some in tasks.values()
            for task in some
            if task.name == name
            for label in task.labels
        ]
        of_truth = [segment.label for segment in recording.truth.segments.get(name, ())]
        labels = dict.fromkeys([*of_bundles, *of_truth])
        self._of = {label: place for place, label in enumerate(labels)}
        self.drawn: set[str] = set()
        self.named: set[str] = set()

    def of(self, label: str) -> tuple[float, float, float]:
        self.drawn.add(label)
        return to_rgb(self._all[self._of[label] % len(self._all)])

    def legend(self, axis: Axes) -> None:
        """Add a legend of the labels that no bar names."""
        unnamed = [label for label in self._of if label in self.drawn - self.named]
        if unnamed:
            axis.legend(
                handles=[Patch(color=self.of(label), label=label) for label in unnamed],
                loc='upper left',
                bbox_to_anchor=(1.0, 1.0),
                fontsize=7,
                frameon=False,
            )


def _best_labels(recording: Recording, task: TaskSpec) -> Bars:
    predictions = recording.predictions
    scores_hk = predictions.scores_hk[task.name]
    times = (predictions.stamps_ns_h - predictions.first_ns) / NANOSECONDS
    # A bar reaches to the next hypothesis, but not across a gap.
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 0.1
    ends = np.minimum(np.append(times[1:], times[-1] + usual), times + MAX_GAP_PERIODS * usual)
    return [
        (float(start), float(end), task.labels[best], float(scores_k[best]))
        for start, end, scores_k, best in zip(
            times, ends, scores_hk, scores_hk.argmax(axis=1), strict=True
        )
    ]


def _events(recording: Recording, task: str) -> Bars:
    return [
        (
            (timed.event.start_ns - recording.predictions.first_ns) / NANOSECONDS,
            (timed.event.stamp_ns - recording.predictions.first_ns) / NANOSECONDS,
            timed.event.label,
            1.0,
        )
        for timed in recording.predictions.events
        if timed.event.task == task and timed.event.type is EventType.END
    ]


def _draw(
    axis: Axes,
    bars: Bars,
    row: int,
    colours: _Colours,
    limits: tuple[float, float],
    *,
    named: bool = False,
) -> None:
    """Draw bars into a row, with their labels if `named`."""
    left, right = limits
    for start, end, label, strength in bars:
        start, end = max(start, left), min(end, right)
        if end <= start:
            continue
        colour = colours.of(label)
        axis.broken_barh(
            [(start, end - start)], (row - 0.42, 0.84), facecolors=[(*colour, strength**2)]
        )
        lines = _lines(label, (end - start) / (right - left)) if named else ''
        if lines:
            colours.named.add(label)
            axis.text(
                (start + end) / 2,
                row,
                lines,
                ha='center',
                va='center',
                fontsize=6.5,
                color='white' if np.dot(colour, (0.3, 0.6, 0.1)) < 0.5 else 'black',
            )


def _lines(label: str, share: float) -> str:
    """Return a label in one or two lines that fit into a share of the width, or nothing."""
    letters = share / _LETTER
    words = label.split(' ')
    breaks = ((' '.join(words[:place]), ' '.join(words[place:])) for place in range(1, len(words)))
    for lines in ((label,), min(breaks, key=lambda two: max(map(len, two)), default=(label,))):
        if max(map(len, lines)) <= letters:
            return '\n'.join(lines)
    return ''

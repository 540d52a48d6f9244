"""A picture of truth against hypothesis over time."""

from collections.abc import Sequence
from pathlib import Path

from step_ros.training.truth import Observation, Truth


def plot_timeline(
    path: Path, observations: Sequence[Observation], truth: Truth, *, title: str
) -> None:
    """Draw for each task the true label, the best label, its score and the order evidence.

    Args:
        path: The PNG file to write.
        observations: Hypotheses, oldest first; at least one.
        truth: True labels; may be empty.
        title: Title of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import TABLEAU_COLORS
    from matplotlib.figure import Figure

    tasks = list(observations[0].answers)
    zero_ns = observations[0].window_start_ns
    end_ns = observations[-1].stamp_ns
    times = [(seen.stamp_ns - zero_ns) / 1e9 for seen in observations]
    figure = Figure(figsize=(14, 2.6 * len(tasks) + 0.6), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(tasks), 1, sharex=True, squeeze=False)[:, 0]
    palette = list(TABLEAU_COLORS.values())
    for axis, task in zip(axes, tasks, strict=True):
        answers = [seen.answers[task] for seen in observations]
        segments = [
            segment
            for segment in truth.segments.get(task, [])
            if segment.start_ns < end_ns and (segment.end_ns or end_ns) > zero_ns
        ]
        seen_labels = [*(segment.label for segment in segments), *(a.label for a in answers)]
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
        for seen, answer in zip(observations, answers, strict=True):
            label = truth.settled(task, seen.window_start_ns, seen.stamp_ns)
            colours.append('0.45' if not label else '#1a7f37' if label == answer.label else 'red')
        axis.scatter(
            times,
            [rows[answer.label] for answer in answers],
            s=[12 + 30 * answer.score for answer in answers],
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

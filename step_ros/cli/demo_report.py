"""What the demo leaves behind: figures, an annotated video and a timeline."""

from pathlib import Path
from typing import Any

from step_ros.cli.demo_table import latency_percentiles
from step_ros.data.video_writer import VideoWriter
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.observer import Observer
from step_ros.training.annotate import annotate
from step_ros.training.timeline_plot import plot_timeline
from step_ros.training.truth import dropped_grid_frames, settled_accuracy

# The task whose accuracy stands for the demo's.
MAIN_TASK = 'action'


def summarise(observer: Observer) -> dict[str, Any]:
    """Return the figures of a run that gave at least one hypothesis.

    Returns:
        `settled_accuracy` (of the task `action`; None without truth), the same by task,
        `hypotheses`, `dropped_grid_frames`, `latency_ms` (p50, p95, p99 from camera stamp to
        arrival), `node_latency_ms_mean` (the node's part) and `model_id`.
    """
    assert observer.model is not None
    observations = list(observer.observations)
    accuracy = settled_accuracy(observations, observer.truth)
    node_ms = [seen.node_latency_ns / 1e6 for seen in observations]
    return {
        'settled_accuracy': accuracy.get(MAIN_TASK),
        'settled_accuracy_by_task': accuracy,
        'hypotheses': len(observations),
        'dropped_grid_frames': dropped_grid_frames(
            observations, to_nanoseconds(observer.model.frame_period)
        ),
        'latency_ms': latency_percentiles(observations),
        'node_latency_ms_mean': round(sum(node_ms) / len(node_ms), 1),
        'model_id': observer.model.model_id,
    }


def write_pictures(observer: Observer, output: Path) -> list[Path]:
    """Write the annotated video and the timeline; return their paths."""
    video, timeline = output / 'demo.mp4', output / 'timeline.png'
    observations = list(observer.observations)
    newest = -1
    writer: VideoWriter | None = None
    for picture in observer.pictures:
        while newest + 1 < len(observations) and (
            observations[newest + 1].stamp_ns <= picture.stamp_ns
        ):
            newest += 1
        seen = observations[newest] if newest >= 0 else None
        image = annotate(picture.image(), picture.stamp_ns, seen, observer.truth)
        if writer is None:
            writer = VideoWriter(video, size=(image.shape[1], image.shape[0]), rate=10)
        writer.write(image, picture.stamp_ns)
    if writer is not None:
        writer.close()
    assert observer.model is not None
    plot_timeline(timeline, observations, observer.truth, title=observer.model.model_id)
    return [video, timeline]

"""A soak's figures as Markdown tables."""

from step_ros.ros.soak_result import SoakResult
from step_ros.stream.benchmark_report import table

FRAME_COLUMNS = (
    *('camera', 'sent', 'transport_lost', 'received', 'used', 'off_grid', 'dropped'),
    *('unaccounted', 'hypotheses'),
)


def frames_table(result: SoakResult) -> str:
    """Write what became of the images of each camera."""
    return table(
        FRAME_COLUMNS,
        [
            [
                camera,
                *map(str, (frames.sent, frames.transport_lost, frames.counts.received)),
                *map(str, (frames.counts.used, frames.counts.off_grid, frames.counts.lost)),
                *map(str, (frames.counts.unaccounted, result.hypotheses[camera])),
            ]
            for camera, frames in result.frames.items()
        ],
    )


def conditions_table(result: SoakResult) -> str:
    """Write what must hold and whether it does."""
    return table(
        ('condition', 'found', 'holds'),
        [
            [condition.what, condition.found, 'yes' if condition.passed else 'NO']
            for condition in result.conditions()
        ],
    )

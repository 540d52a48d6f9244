"""Compute against the number of tasks (Fig. 4 of the human-robot interaction paper)."""

from pathlib import Path

from matplotlib.figure import Figure

from step_ros.training.complexity_table import BACKBONES, FRAMES, SIZE, scaling


def plot_scaling(path: Path, *, most_tasks: int = 5) -> None:
    """Draw the multiply-adds of each method for one to several tasks, for both backbones.

    Args:
        path: Image file to write; its folder is made.
        most_tasks: Where the horizontal axis ends.
    """
    figure = Figure(figsize=(11, 4.5), layout='constrained')
    axes = figure.subplots(1, len(BACKBONES), sharey=True)
    tasks = range(1, most_tasks + 1)
    for panel, title in zip(axes, BACKBONES, strict=True):
        for (name, gflops), marker in zip(scaling(title, most_tasks).items(), 'osD^', strict=True):
            panel.plot(
                tasks,
                gflops,
                marker=marker,
                label=name,
                linewidth=3 if name == 'STEP' else 1.5,
            )
        panel.set_title(title)
        panel.set_xlabel('tasks')
        panel.set_xticks(list(tasks))
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    axes[0].set_ylabel('GFLOPs (multiply-adds, full count)')
    axes[0].legend()
    figure.suptitle(
        f'{FRAMES} frames of {SIZE} px, one view: STEP encodes once for all tasks, '
        'adapters once for each'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)

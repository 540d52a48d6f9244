"""What heads make of held-out clips: accuracy, overall and by near symmetry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from step_ros.reporting.progress import track
from step_ros.training.clips import ClipTokens, cut_window, window_starts


@dataclass(frozen=True, kw_only=True)
class WindowPredictions:
    """Answers on every window of some clips.

    Attributes:
        logits: For each task the logits, `[w, k]`.
        clip_w: Which clip a window is of.
    """

    logits: dict[str, Tensor]
    clip_w: np.ndarray


@torch.inference_mode()
def predict_windows(
    heads: Mapping[str, nn.Module],
    clips: Sequence[ClipTokens],
    *,
    frames: int,
    frame_period: float,
    reverse: bool = False,
) -> WindowPredictions:
    """Run heads on every window of each clip.

    Args:
        heads: A head for each task.
        clips: Encoded clips.
        frames: Frames in a window.
        frame_period: Seconds between two of them.
        reverse: Whether to turn the frames of each window round.
    """
    logits: dict[str, list[Tensor]] = {task: [] for task in heads}
    clip_w: list[int] = []
    for index, clip in enumerate(track(clips, 'evaluate' + ', reversed' * reverse, len(clips))):
        starts = window_starts(clip, frames=frames, frame_period=frame_period)
        if not starts:
            continue
        x_btnd = torch.stack(
            [cut_window(clip, s, frames=frames, frame_period=frame_period) for s in starts]
        )
        if reverse:
            x_btnd = x_btnd.flip(dims=(1,))
        for task, head in heads.items():
            logits[task].append(head(x_btnd))
        clip_w += [index] * len(starts)
    return WindowPredictions(
        logits={task: torch.cat(parts) for task, parts in logits.items()},
        clip_w=np.array(clip_w),
    )


def targets_of(
    clips: Sequence[ClipTokens], answers: WindowPredictions, task: str, labels: Sequence[str]
) -> np.ndarray:
    """Return the index of the true label of each window."""
    return np.array([list(labels).index(clips[index].labels[task]) for index in answers.clip_w])


def clip_scores(logits_wk: Tensor, clip_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average the probabilities of a clip's windows.

    Returns:
        Probabilities `[c, k]`, and which clips they are of.
    """
    scores_wk = logits_wk.softmax(dim=-1).numpy()
    clips = np.unique(clip_w)
    return np.stack([scores_wk[clip_w == index].mean(axis=0) for index in clips]), clips

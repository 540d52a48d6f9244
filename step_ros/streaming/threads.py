# SPDX-License-Identifier: Apache-2.0
"""How many of the processor's threads a model is worth.

Several threads hardly speed up a frame of a small model: they wait for each other, awake, and take
the processor from the robot's other programs. So one thread is the choice unless all are clearly
faster, by measurement.
"""

from collections.abc import Callable
from statistics import median

import cv2
import torch

from step_ros.encoders.base import Encoder
from step_ros.streaming.frame_timer import FrameTimer
from step_ros.streaming.recogniser import StreamingRecogniser

# The number that torch chooses, read at import before anything changes it.
ALL_THREADS = torch.get_num_threads()

# One thread is the choice if a frame takes at most this many times as long with it.
AS_GOOD = 1.5

# A frame that takes longer than this with all threads is worth them. To measure it with one
# thread too would delay the start.
WORTH_ALL_MS = 25.0

# Measurements of each choice; they alternate, so that a busy moment of the machine hits both.
_ROUNDS = 3


def set_threads(threads: int) -> None:
    """Set the threads of torch, and of OpenCV, which resizes images."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def start_encoder(
    threads: int,
    start: Callable[[], Encoder],
    recognise: Callable[[Encoder], StreamingRecogniser],
) -> Encoder:
    """Start an encoder and set the threads of torch and OpenCV.

    Args:
        threads: How many threads; 0 measures whether to use one or all. Only encoders on the CPU
            are measured.
        start: Starts an encoder with as many threads as torch has.
        recognise: Returns a recogniser with an encoder, for the measurement.

    Returns:
        The encoder; its description names the measured times.
    """
    set_threads(threads or ALL_THREADS)
    encoder = start()
    if threads or encoder.device.type != 'cpu' or ALL_THREADS == 1:
        return encoder
    all_timer = FrameTimer(recognise(encoder))
    if min(all_timer.run(2)) > WORTH_ALL_MS:
        return encoder
    set_threads(1)
    alone = start()
    one_timer = FrameTimer(recognise(alone))
    times: dict[int, list[float]] = {1: [], ALL_THREADS: []}
    for _ in range(_ROUNDS):
        for threads, timer in ((ALL_THREADS, all_timer), (1, one_timer)):
            set_threads(threads)
            # Discard the first window: it is not full, or the other choice's threads still spin.
            times[threads] += timer.run(2 * timer.window)[timer.window :]
    one_ms, all_ms = median(times[1]), median(times[ALL_THREADS])
    chosen, threads = (alone, 1) if one_ms <= AS_GOOD * all_ms else (encoder, ALL_THREADS)
    set_threads(threads)
    chosen.description += (
        f'; threads: {threads} (a frame takes {one_ms:.1f} ms with 1, {all_ms:.1f} with '
        f'{ALL_THREADS})'
    )
    return chosen

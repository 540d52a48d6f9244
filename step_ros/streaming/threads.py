"""How many of the processor's threads a model is worth.

A small model's frame is hardly done sooner by several threads than by one: they spend their time
waiting for each other, awake, where the robot's other programs want the processor, too.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median

import cv2
import numpy as np
import torch

from step_ros.encoders.base import Encoder
from step_ros.streaming.frame import Frame
from step_ros.streaming.recogniser import StreamingRecogniser

# ---- How long a recogniser takes for frames that are there already.


class FrameTimer:
    """Times a recogniser on one image, over and over.

    Args:
        recogniser: It should see nothing else: the cameras stay.
        image_hw3: The image, uint8 RGB; None for a black one of the size that the encoder takes.
    """

    def __init__(
        self, recogniser: StreamingRecogniser, *, image_hw3: np.ndarray | None = None
    ) -> None:
        self._recogniser = recogniser
        self._stamps_ns: dict[str, int] = {}
        image = recogniser.bundle.spec.image
        if image_hw3 is None:
            image_hw3 = np.zeros((image.height, image.width, 3), dtype=np.uint8)
        self._image_hw3 = image_hw3

    @property
    def window(self) -> int:
        """Frames in a window."""
        return self._recogniser.bundle.spec.frames

    def take(self, cameras: Sequence[str]) -> float:
        """Take the next frame of some cameras at once; return the milliseconds it took."""
        frames = []
        for camera in cameras:
            stamp_ns = self._stamps_ns.get(camera, 1)
            self._stamps_ns[camera] = stamp_ns + self._recogniser.settings.frame_period_ns
            frames.append(Frame(camera=camera, stamp_ns=stamp_ns, load=lambda: self._image_hw3))
        started = time.perf_counter()
        self._recogniser.process(frames)
        return 1e3 * (time.perf_counter() - started)

    def run(self, frames: int) -> list[float]:
        """Take some frames of one camera; return the milliseconds of each."""
        return [self.take(['']) for _ in range(frames)]


# What torch takes by itself, before anyone has changed it.
ALL_THREADS = torch.get_num_threads()

# One thread is taken where a frame takes at most so many times as long with it.
AS_GOOD = 1.5

# A frame that takes so many ms with all threads is worth them; with one it would be measured for
# long.
WORTH_ALL_MS = 25.0

_ROUNDS = 3


def set_threads(threads: int) -> None:
    """Have torch take so many threads, and OpenCV for fitting images."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def start_encoder(
    threads: int,
    start: Callable[[], Encoder],
    recognise: Callable[[Encoder], StreamingRecogniser],
) -> Encoder:
    """Start an encoder, and have torch and OpenCV take as many threads.

    Args:
        threads: How many; 0 for one or all, whichever serves better, by measurement.
        start: Starts an encoder with as many threads as torch has.
        recognise: Makes the recogniser that it will serve.

    Returns:
        The encoder; its description says what was measured. On other devices than the CPU nothing
        is.
    """
    set_threads(threads or ALL_THREADS)
    encoder = start()
    if threads or encoder.device.type != 'cpu' or ALL_THREADS == 1:
        return encoder
    by_all = FrameTimer(recognise(encoder))
    if min(by_all.run(2)) > WORTH_ALL_MS:
        return encoder
    set_threads(1)
    alone = start()
    by_one = FrameTimer(recognise(alone))
    times: dict[int, list[float]] = {1: [], ALL_THREADS: []}
    for _ in range(_ROUNDS):
        for threads, timer in ((ALL_THREADS, by_all), (1, by_one)):
            set_threads(threads)
            # The first window is not full, or finds the other's threads awake.
            times[threads] += timer.run(2 * timer.window)[timer.window :]
    one_ms, all_ms = median(times[1]), median(times[ALL_THREADS])
    chosen, threads = (alone, 1) if one_ms <= AS_GOOD * all_ms else (encoder, ALL_THREADS)
    set_threads(threads)
    chosen.description += (
        f'; threads: {threads} (a frame takes {one_ms:.1f} ms with 1, {all_ms:.1f} with '
        f'{ALL_THREADS})'
    )
    return chosen

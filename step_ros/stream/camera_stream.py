"""What is kept of one camera: grid, window, the heads' cache and counters."""

from collections import Counter

from step_ros.stream.grid import FrameGrid, GridSettings
from step_ros.stream.head_cache import HeadCache
from step_ros.stream.window import Window


class CameraStream:
    """Grid, window, cache and counters of one camera.

    Attributes:
        window: The newest grid frames.
        cache: What streaming heads keep of them; None with plain heads.
        counts: Frames by what became of them: `received`, the values of `Placement`, causes of
            unusable frames, and `missed_slots` (slots inside a window that no frame filled).
    """

    def __init__(
        self, frames: int, settings: GridSettings, *, cache: HeadCache | None = None
    ) -> None:
        self.frames = frames
        self.grid = FrameGrid(settings)
        self.window = Window(frames)
        self.cache = cache
        self.counts: Counter[str] = Counter()

    def reset(self) -> None:
        """Empty the window; counters go on."""
        self.grid.reset()
        self.window.clear()

# SPDX-License-Identifier: Apache-2.0
"""Camera fusion: one view of a scene, its scores averaged over the cameras of a moment.

front   |f1      |f2      |f3           two hypotheses belong to one moment if their stamps
side      |s1      |s2       (late)     differ by tolerance_ns at most
fused     |f1+s1   |f2+s2      |f3      complete with the last view, or without a late one
"""

from collections.abc import Sequence

import numpy as np

from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis

# The name of the fused view, in the place of a camera's name.
FUSED = 'fused'
_NEVER = -1


class CameraFusion:
    """Averages the scores of synchronised views, one fused hypothesis for each moment.

    A moment is complete when each live camera has given its hypothesis, or when one of them gives
    its next one: no camera waits for a late or dead one.

    Args:
        cameras: The cameras that show the scene.
        tolerance_ns: Greatest difference between the stamps of averaged hypotheses. Each camera
            has a grid of its own, so this is half a frame period and a little more.
        stale_ns: A camera counts as dead if its newest hypothesis is this much older than another
            camera's.

    Attributes:
        late: How many hypotheses came after their moment was complete, and were dropped.

    Raises:
        ValueError: There are fewer than two cameras, or a time is not positive.
    """

    def __init__(self, cameras: Sequence[str], *, tolerance_ns: int, stale_ns: int) -> None:
        if len(set(cameras)) < 2:
            raise ValueError(f'cameras={list(cameras)}: expected at least two to fuse')
        for name, value in (('tolerance_ns', tolerance_ns), ('stale_ns', stale_ns)):
            if value <= 0:
                raise ValueError(f'{name}={value}; expected more than 0')
        self._cameras = tuple(cameras)
        self._tolerance_ns = tolerance_ns
        self._stale_ns = stale_ns
        self._newest_ns: dict[str, int] = {}
        self._started_ns = _NEVER
        self._pending: dict[str, Hypothesis] = {}
        self._completed_ns = _NEVER
        self.late = 0

    def add_hypothesis(self, hypothesis: Hypothesis) -> list[Hypothesis]:
        """Return the fused hypotheses that one camera's hypothesis completes, oldest first."""
        camera, stamp_ns = hypothesis.camera, hypothesis.stamp_ns
        # The camera's stamps jumped back: a looped bag or a restarted simulation.
        if stamp_ns <= self._newest_ns.get(camera, stamp_ns - 1):
            self.reset()
        if not self._newest_ns:
            self._started_ns = stamp_ns
        self._newest_ns[camera] = stamp_ns
        stamps = [view.stamp_ns for view in self._pending.values()]
        earliest_ns = max(
            [self._completed_ns + 1, *(each - self._tolerance_ns for each in stamps)]
        )
        if stamp_ns < earliest_ns:
            self.late += 1
            return []
        complete = []
        if (
            camera in self._pending
            or stamp_ns > min(stamps, default=stamp_ns) + self._tolerance_ns
        ):
            complete += self._flush()
        self._pending[camera] = hypothesis
        newest_ns = max(self._newest_ns.values())
        # A camera that never sent anything counts from the first hypothesis of any.
        alive = {
            name
            for name in self._cameras
            if newest_ns - self._newest_ns.get(name, self._started_ns) <= self._stale_ns
        }
        if alive <= self._pending.keys():
            complete += self._flush()
        return complete

    def reset(self) -> None:
        """Forget all views and cameras, as before the first hypothesis."""
        self._pending.clear()
        self._newest_ns.clear()
        self._completed_ns = _NEVER

    def _flush(self) -> list[Hypothesis]:
        if not self._pending:
            return []
        fused = _averaged([self._pending[name] for name in self._cameras if name in self._pending])
        self._pending.clear()
        self._completed_ns = fused.stamp_ns
        return [fused]


def _averaged(views: Sequence[Hypothesis]) -> Hypothesis:
    newest = max(views, key=lambda view: view.stamp_ns)
    tasks = tuple(
        TaskHypothesis(
            spec=same[0].spec,
            scores_k=np.mean([task.scores_k for task in same], axis=0),
            order_evidence=float(np.mean([task.order_evidence for task in same])),
        )
        for same in zip(*(view.tasks for view in views), strict=True)
    )
    return Hypothesis(
        camera=FUSED,
        frame_id=newest.frame_id,
        stamp_ns=newest.stamp_ns,
        window_start_ns=min(view.window_start_ns for view in views),
        received_ns=max(view.received_ns for view in views),
        tasks=tasks,
    )

"""Several views of one scene as one: scores averaged over cameras that show the same moment."""

from collections.abc import Sequence

import numpy as np

from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis

# How the common view is called, where a camera's name stands otherwise.
FUSED = 'fused'
_NEVER = -1


class CameraFusion:
    """Averages the scores of synchronised views, one answer for each moment.

    A moment is complete when each camera that is alive has given its hypothesis, or when one of
    them gives its next: a camera that is late or dead holds nobody up.

    Args:
        cameras: The cameras that show the scene.
        tolerance_ns: Greatest distance of the stamps of hypotheses that are averaged: half a frame
            period and a little more, for cameras are sampled on grids of their own.
        stale_ns: A camera whose newest hypothesis is this much older than another's is not waited
            for.

    Attributes:
        late: Hypotheses left out because they came after their moment was answered.

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
        self._seen_ns: dict[str, int] = {}
        self._began_ns = _NEVER
        self._pending: dict[str, Hypothesis] = {}
        self._answered_ns = _NEVER
        self.late = 0

    def update(self, hypothesis: Hypothesis) -> list[Hypothesis]:
        """Take one camera's hypothesis; return the moments that it completes, oldest first."""
        camera, stamp_ns = hypothesis.camera, hypothesis.stamp_ns
        # One that came later and is stamped earlier belongs to a time that has begun anew.
        if stamp_ns <= self._seen_ns.get(camera, stamp_ns - 1):
            self.reset()
        if not self._seen_ns:
            self._began_ns = stamp_ns
        self._seen_ns[camera] = stamp_ns
        stamps = [view.stamp_ns for view in self._pending.values()]
        earliest_ns = max([self._answered_ns + 1, *(each - self._tolerance_ns for each in stamps)])
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
        newest_ns = max(self._seen_ns.values())
        alive = {
            name
            for name in self._cameras
            if newest_ns - self._seen_ns.get(name, self._began_ns) <= self._stale_ns
        }
        if alive <= self._pending.keys():
            complete += self._flush()
        return complete

    def reset(self) -> None:
        """Forget what waits and who is alive, as before the first hypothesis."""
        self._pending.clear()
        self._seen_ns.clear()
        self._answered_ns = _NEVER

    def _flush(self) -> list[Hypothesis]:
        if not self._pending:
            return []
        fused = _averaged([self._pending[name] for name in self._cameras if name in self._pending])
        self._pending.clear()
        self._answered_ns = fused.stamp_ns
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

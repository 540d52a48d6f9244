# SPDX-License-Identifier: Apache-2.0
"""An endless sequence of actions in one persistent scene, with random access in time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from step_ros.tabletop.motion import Motion
from step_ros.tabletop.planner import plan
from step_ros.tabletop.scene import Layout, SceneState, World
from step_ros.tabletop.splits import draw_duration, random_for
from step_ros.tabletop.vocabulary import ACTIONS, ActionSpec, labels_of, spec_of
from step_ros.tabletop.worlds import (
    draw_world,
    is_possible,
    make_holding,
    make_possible,
    other_end,
)

# Preference for rare actions: a large value evens the counts out at once, a small value lets the
# order vary more.
_EVENNESS = 0.8


@dataclass(frozen=True)
class ActionSegment:
    """One action on the timeline.

    Attributes:
        start_s: Start of the action, in seconds.
        end_s: End of the action and start of the next one, in seconds.
        labels: Label of each task.
        action: Label of the task `action`.
        motion: Motion of the hand and of the thing in it.
        backward: Whether the motion is played from its end to its beginning.
    """

    start_s: float
    end_s: float
    labels: dict[str, str]
    action: str
    motion: Motion = field(repr=False)
    backward: bool

    def state_at(self, time_s: float, layout: Layout) -> SceneState:
        """Return the scene's state at a moment of this segment.

        Args:
            time_s: Seconds on the timeline.
            layout: The fixed things of the scene.
        """
        inside = self.end_s - time_s if self.backward else time_s - self.start_s
        return self.motion.state_at(inside, layout)

    @property
    def world_before(self) -> World:
        """The resting world at the segment's start."""
        return self.motion.after if self.backward else self.motion.before

    @property
    def world_after(self) -> World:
        """The resting world at the segment's end."""
        return self.motion.before if self.backward else self.motion.after


class Timeline:
    """Actions one after another; each begins in the final world of the previous one."""

    def __init__(self, layout: Layout, *, seed: int, split: str) -> None:
        """Start an empty timeline, which grows on demand.

        Args:
            layout: The fixed things of the scene.
            seed: Number of the scene within its split.
            split: One of `SPLITS`.
        """
        self._layout = layout
        self._seed = seed
        self._split = split
        self._world = draw_world(layout, random_for(split, seed, 'world'))
        self._counts = dict.fromkeys(ACTIONS, 0)
        self._segments: list[ActionSegment] = []
        self._starts: list[float] = []

    def segment_at(self, time_s: float) -> ActionSegment:
        """Return the action at a time.

        Args:
            time_s: Seconds since the beginning, not negative.

        Returns:
            The segment with `start_s <= time_s < end_s`.

        Raises:
            ValueError: The time is negative.
        """
        if not 0.0 <= time_s < float('inf'):
            raise ValueError(
                f'time of {time_s} s: expected a finite time; the timeline begins at 0 s'
            )
        while not self._segments or time_s >= self._segments[-1].end_s:
            self._extend()
        return self._segments[bisect_right(self._starts, time_s) - 1]

    def _extend(self) -> None:
        """Append one action."""
        rng = random_for(self._split, self._seed, 'segment', len(self._segments))
        spec = self._choose(rng)
        self._counts[spec.action] += 1
        other = other_end(spec, self._world, self._layout, rng)
        a, b = (other, self._world) if spec.backward else (self._world, other)
        motion = plan(spec, a, b, draw_duration(self._split, rng), self._layout, rng)
        start = self._segments[-1].end_s if self._segments else 0.0
        segment = ActionSegment(
            start_s=start,
            end_s=start + motion.duration_s,
            labels=labels_of(spec.action),
            action=spec.action,
            motion=motion,
            backward=spec.backward,
        )
        self._segments.append(segment)
        self._starts.append(start)
        self._world = segment.world_after

    def _choose(self, rng: np.random.Generator) -> ActionSpec:
        """Choose a possible action other than the last one; rare actions are more likely."""
        last = self._segments[-1].action if self._segments else None
        specs = [s for s in ACTIONS.values() if s.action != last and is_possible(s, self._world)]
        counts = np.array([self._counts[spec.action] for spec in specs], np.float64)
        weights = np.exp(-_EVENNESS * (counts - counts.min()))
        return specs[int(rng.choice(len(specs), p=weights / weights.sum()))]


def clip_motion(action: str, layout: Layout, *, seed: int, split: str) -> Motion:
    """Plan the motion of a single clip; both actions of a pair share it.

    Args:
        action: A label of the task `action`.
        layout: The fixed things of the scene.
        seed: Number of the scene within its split.
        split: One of `SPLITS`.

    Returns:
        The motion, to be played backward if the action's `backward` is set.
    """
    spec = spec_of(action)
    world = draw_world(layout, random_for(split, seed, 'world'))
    rng = random_for(split, seed, 'clip', spec.motion)
    world = make_possible(spec, world, layout, rng)
    forward = ActionSpec(spec.action, spec.verb, spec.object, spec.motion)
    if spec.motion == 'idle' and rng.random() < 0.25:
        world = make_holding(world, rng)
    other = other_end(forward, world, layout, rng)
    return plan(forward, world, other, draw_duration(split, rng), layout, rng)

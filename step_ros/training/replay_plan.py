"""What is to be replayed, how, and what came of it."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from step_ros.model.bundle import model_id
from step_ros.model.bundle_schema import BundleSpec
from step_ros.stream.settings import StreamSettings
from step_ros.training.replay_scores import Recording


@dataclass(frozen=True, kw_only=True)
class ReplayPlan:
    """How bags are replayed.

    Attributes:
        labels: Where the true labels are, as `read_labels` takes it.
        topics: Image topics; empty for all that a bag has.
        settings: Those of the node.
        top_k: Labels of each task in a written hypothesis.
        device: Where encoder and heads run.
    """

    labels: str
    topics: tuple[str, ...]
    settings: StreamSettings
    top_k: int
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class ReplayedBundle:
    """A bundle that answers.

    Attributes:
        title: What a report calls it.
        path: Its folder.
        spec: What its `bundle.yaml` says.
    """

    title: str
    path: Path
    spec: BundleSpec

    @property
    def model_id(self) -> str:
        """Name and digest of everything that decides an answer."""
        return model_id(self.spec)


@dataclass(frozen=True, kw_only=True)
class ReplayTime:
    """How long a bundle took for a bag, and whether that was in an earlier run."""

    bag: str
    path: str
    bundle: str
    seconds: float
    recorded_seconds: float
    resumed: bool


@dataclass(kw_only=True)
class ReplayResult:
    """What came of replaying bags.

    Attributes:
        plan: How.
        bundles: The bundles.
        recordings: By the bundle's title, in the same order for each.
        failures: Why bags could not be replayed, by their names.
        times: How long it took.
    """

    plan: ReplayPlan
    bundles: tuple[ReplayedBundle, ...]
    recordings: dict[str, list[Recording]]
    failures: dict[str, str] = field(default_factory=dict)
    times: list[ReplayTime] = field(default_factory=list)

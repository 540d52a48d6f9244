"""Replay evaluation: bags through the streaming recogniser, and what their labels say about it."""

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from step_ros.datasets.readers.bag import find_bags
from step_ros.encoders.base import TorchEncoder
from step_ros.evaluation.ground_truth import Truth
from step_ros.io.bags.metadata import BagError, is_bag
from step_ros.io.bags.reader import BagReader
from step_ros.io.bags.writer import BagWriter
from step_ros.model.bundle import Bundle, load_bundle, model_id, read_spec
from step_ros.model.bundle_schema import BundleSpec
from step_ros.replay.labels import check_labels, check_within, read_labels
from step_ros.replay.recognise import replay_bag
from step_ros.replay.results import (
    FORMAT,
    BagPredictions,
    bag_digest,
    camera_predictions,
    digest_of,
    load_predictions,
    save_predictions,
)
from step_ros.replay.scores import Recording
from step_ros.streaming.settings import StreamSettings

# ---- What is to be replayed, how, and what came of it.


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


BAGS = 'bags'


def replay(
    bags: Sequence[Path],
    bundles: Sequence[Path],
    plan: ReplayPlan,
    *,
    output: Path,
    shown: bool = True,
) -> ReplayResult:
    """Replay bags, each with every bundle; what an earlier run finished is not done again.

    A bag that cannot be replayed with one of the bundles is left out for all of them, so that
    they are compared on the same recordings.

    Args:
        bags: Bags, or folders of bags.
        bundles: Folders of bundles.
        plan: How.
        output: Folder that keeps the answers, and a bag of hypotheses and events beside them.
        shown: Whether there are progress bars.

    Raises:
        BundleError: A bundle is damaged.
        DatasetError: The file of labels cannot be used.
        ValueError: A bundle is given twice, or the settings do not fit it.
    """
    contestants = _name_bundles(bundles)
    result = ReplayResult(
        plan=plan,
        bundles=contestants,
        recordings={bundle.title: [] for bundle in contestants},
    )
    models = _Models(plan)
    for name, path in name_bags(bags).items():
        try:
            found = _replay_one(name, path, models, result, output=output, shown=shown)
        except BagError as error:
            # A report names the bag, not where it lies on this machine.
            why = str(error).removeprefix(f'{error.path}: ')
            result.failures[name] = why.replace(str(path.resolve()), name).replace(str(path), name)
            continue
        for title, recordings in found.items():
            result.recordings[title] += recordings
    return result


def name_bags(paths: Sequence[Path]) -> dict[str, Path]:
    """Find the bags in folders; a folder without any stands for itself, to be complained about."""
    named: dict[str, Path] = {}
    taken: Counter[str] = Counter()
    for path in paths:
        root = path.resolve()
        found = [(root.name, path)]
        if path.is_dir() and not is_bag(path):
            inside = [(f'{root.name}/{name}', bag) for name, bag in find_bags(path)]
            found = inside or found
        for name, bag in found:
            taken[name] += 1
            named[name if taken[name] == 1 else f'{name}-{taken[name]}'] = bag
    return named


def _name_bundles(paths: Sequence[Path]) -> tuple[ReplayedBundle, ...]:
    specs = [(path, read_spec(path)) for path in paths]
    names = Counter(spec.name for _, spec in specs)
    bundles = tuple(
        ReplayedBundle(
            title=spec.name if names[spec.name] == 1 else model_id(spec), path=path, spec=spec
        )
        for path, spec in specs
    )
    for title, count in Counter(bundle.title for bundle in bundles).items():
        if count > 1:
            raise ValueError(f'bundle {title} is given {count} times; expected different ones')
    return bundles


class _Models:
    """Bundles, loaded when the first bag needs them."""

    def __init__(self, plan: ReplayPlan) -> None:
        self._device = plan.device
        self._loaded: dict[Path, tuple[Bundle, TorchEncoder]] = {}

    def load(self, bundle: ReplayedBundle) -> tuple[Bundle, TorchEncoder]:
        if bundle.path not in self._loaded:
            loaded = load_bundle(bundle.path)
            encoder = TorchEncoder(loaded.model.backbone, device=self._device)
            self._loaded[bundle.path] = (loaded, encoder)
        return self._loaded[bundle.path]


def _replay_one(
    name: str,
    path: Path,
    models: _Models,
    result: ReplayResult,
    *,
    output: Path,
    shown: bool,
) -> dict[str, list[Recording]]:
    plan = result.plan
    bag = BagReader(path)
    topics = _cameras(bag, plan.topics)
    truths = read_labels(bag, plan.labels, topics)
    for truth in truths.values():
        for bundle in result.bundles:
            check_labels(bag, truth, bundle.spec.tasks, bundle.model_id)
    digest = bag_digest(path)
    recordings: dict[str, list[Recording]] = {}
    times = []
    for bundle in result.bundles:
        folder = output / BAGS / name / bundle.model_id
        key = _key(digest, bundle, plan, topics)
        predictions = _finished(folder, key)
        resumed = predictions is not None
        if predictions is None:
            predictions = _answer(bag, topics, bundle, models, plan, folder, key=key, shown=shown)
        recordings[bundle.title] = [
            Recording(bag=name, predictions=camera, truth=truths.get(camera.topic, Truth()))
            for camera in predictions.cameras
        ]
        recorded_ns = sum(camera.last_ns - camera.first_ns for camera in predictions.cameras)
        times.append(
            ReplayTime(
                bag=name,
                path=str(path.resolve()),
                bundle=bundle.model_id,
                seconds=round(predictions.seconds, 3),
                recorded_seconds=round(recorded_ns / 1e9, 3),
                resumed=resumed,
            )
        )
    for each in recordings[result.bundles[0].title]:
        of_camera = each.predictions
        check_within(
            path,
            of_camera.topic,
            each.truth,
            first_ns=of_camera.first_ns,
            last_ns=of_camera.last_ns,
        )
    result.times += times
    return recordings


def _cameras(bag: BagReader, topics: Sequence[str]) -> tuple[str, ...]:
    if topics:
        bag.require_images(topics)
        return tuple(topics)
    if not bag.image_topics:
        holds = ', '.join(f'{topic.name} ({topic.type})' for topic in bag.topics.values())
        raise BagError(bag.path, f'it has no topic with images; it holds {holds or "nothing"}')
    return bag.image_topics


def _key(digest: str, bundle: ReplayedBundle, plan: ReplayPlan, topics: Sequence[str]) -> str:
    """Digest everything that decides the answers."""
    return digest_of(
        {
            'format': FORMAT,
            'bag': digest,
            'bundle': bundle.model_id,
            'topics': list(topics),
            'settings': asdict(plan.settings),
            'top_k': plan.top_k,
            'device': plan.device.type,
            # The order of summation, and so the last bit, hangs on these.
            'threads': torch.get_num_threads(),
            'torch': torch.__version__,
        }
    )


def _finished(folder: Path, key: str) -> BagPredictions | None:
    try:
        predictions = load_predictions(folder)
    except (OSError, ValueError, KeyError):
        # Nothing is there, or what an older version wrote.
        return None
    return predictions if predictions.key == key else None


def _answer(
    bag: BagReader,
    topics: Sequence[str],
    bundle: ReplayedBundle,
    models: _Models,
    plan: ReplayPlan,
    folder: Path,
    *,
    key: str,
    shown: bool,
) -> BagPredictions:
    """Replay a bag into a folder, which appears as a whole once it is finished."""
    model, encoder = models.load(bundle)
    partial = folder.with_name(f'{folder.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        started = time.monotonic()
        with BagWriter(partial / 'bag', 'mcap') as writer:
            cameras = replay_bag(
                bag,
                topics,
                model,
                encoder,
                plan.settings,
                output=writer,
                top_k=plan.top_k,
                shown=shown,
            )
        predictions = BagPredictions(
            key=key,
            seconds=time.monotonic() - started,
            cameras=tuple(camera_predictions(camera) for camera in cameras),
        )
        save_predictions(partial, predictions)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return predictions

# SPDX-License-Identifier: Apache-2.0
"""Replay evaluation: run recorded bags through the streaming recogniser of every bundle.

A `ReplayPlan` says how to replay, `replay` does it, and a `ReplayResult` holds the predictions
beside the true labels. Each bag and bundle has a folder in the output. The folder appears whole,
with the digest of everything that determines the predictions, so that a later run can reuse it.
"""

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from step_ros.datasets.readers.bag_selection import find_bags
from step_ros.encoders.base import TorchEncoder
from step_ros.evaluation.ground_truth import Truth
from step_ros.files import replace_folder
from step_ros.io.bags.metadata import BagError, is_bag
from step_ros.io.bags.pictures import choose_pictures
from step_ros.io.bags.reader import BagReader
from step_ros.io.bags.writer import BagWriter
from step_ros.model.bundle import Bundle, load_bundle, model_id, read_spec
from step_ros.model.bundle_schema import BundleSpec
from step_ros.replay.labels import (
    LabelSource,
    check_labels,
    check_within,
    cut_outside,
    find_labels,
    read_labels,
)
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
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.settings import StreamSettings

# Folder of the output that holds the predictions, as BAGS/NAME/BUNDLE.
BAGS = 'bags'


@dataclass(frozen=True, kw_only=True)
class ReplayPlan:
    """How bags are replayed.

    Attributes:
        labels: Source of the true labels, as `read_labels` takes it.
        topics: Image topics; empty for all topics of a bag with pictures, each camera once.
        settings: Settings of the stream, as the node has them.
        top_k: Labels per task in a written hypothesis.
        device: Where encoder and heads run.
    """

    labels: str
    topics: tuple[str, ...]
    settings: StreamSettings
    top_k: int
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class ReplayedBundle:
    """A bundle that is evaluated.

    Attributes:
        title: Name of the bundle in a report.
        path: Its folder.
        spec: Content of its `bundle.yaml`.
    """

    title: str
    path: Path
    spec: BundleSpec

    @property
    def model_id(self) -> str:
        """Name of the bundle and digest of everything that determines its predictions."""
        return model_id(self.spec)


@dataclass(frozen=True, kw_only=True)
class ReplayTime:
    """Time that a bundle took for a bag; `resumed` if an earlier run spent it."""

    bag: str
    path: str
    bundle: str
    seconds: float
    recorded_seconds: float
    resumed: bool


@dataclass(kw_only=True)
class ReplayResult:
    """Predictions and true labels of all bags.

    Attributes:
        plan: How the bags were replayed.
        bundles: The bundles.
        recordings: Recordings by the bundle's title, in the same order for each bundle.
        failures: For each bag that could not be replayed, its name and the reason.
        times: Time taken for each bag and bundle.
        left_out: Image topics that hold no picture of a further camera: the reason by topic, by
            bag. Only bags that have such topics, and only if the plan names no topics.
        label_sources: Where the true labels come from, by name of the bag.
        labels_outside: Number of labels outside the images' time, which are left out, by name of
            the bag; only bags that have some.
    """

    plan: ReplayPlan
    bundles: tuple[ReplayedBundle, ...]
    recordings: dict[str, list[Recording]]
    failures: dict[str, str] = field(default_factory=dict)
    times: list[ReplayTime] = field(default_factory=list)
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)
    label_sources: dict[str, LabelSource] = field(default_factory=dict)
    labels_outside: dict[str, int] = field(default_factory=dict)


def replay(
    bags: Sequence[Path],
    bundles: Sequence[Path],
    plan: ReplayPlan,
    *,
    output: Path,
    shown: bool = True,
) -> ReplayResult:
    """Replay each bag with every bundle, and reuse the predictions of earlier runs.

    If a bag fails with one bundle, it is left out for all bundles, so that they are compared on
    the same recordings.

    Args:
        bags: Bags, or folders of bags.
        bundles: Folders of bundles.
        plan: How to replay.
        output: Folder for the predictions, and for a bag of hypotheses and events beside them.
        shown: Whether to show progress bars.

    Raises:
        BundleError: A bundle is damaged.
        DatasetError: The file of labels cannot be used.
        ValueError: A bundle is given twice, or the settings do not fit it.
    """
    named_bundles = _name_bundles(bundles)
    result = ReplayResult(
        plan=plan,
        bundles=named_bundles,
        recordings={bundle.title: [] for bundle in named_bundles},
    )
    models = _Models(plan)
    for name, path in name_bags(bags).items():
        try:
            found = _replay_one(name, path, models, result, output=output, shown=shown)
        except BagError as error:
            # A report names the bag, not its path on this machine.
            reason = str(error).removeprefix(f'{error.path}: ')
            reason = reason.replace(str(path.resolve()), name).replace(str(path), name)
            result.failures[name] = reason
            continue
        for title, recordings in found.items():
            result.recordings[title] += recordings
    return result


def name_bags(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the bags at some paths by unique names.

    A folder without bags is returned as if it were a bag: reading it fails with a clear message.

    Args:
        paths: Bags, or folders of bags.
    """
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
    """Title each bundle by its name, or by its model id where several share the name."""
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
            raise ValueError(f'bundle {title} is given {count} times; give each bundle once')
    return bundles


class _Models:
    """Bundles, each loaded when the first bag needs it."""

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
    """Replay one bag with every bundle; return its recordings by the bundle's title."""
    plan = result.plan
    bag = BagReader(path)
    topics = _image_topics(bag, plan.topics)
    if not plan.topics and (left_out := choose_pictures(bag).left_out):
        result.left_out[name] = left_out
    source = find_labels(bag, plan.labels)
    truths = read_labels(bag, source, topics)
    for truth in truths.values():
        for bundle in result.bundles:
            check_labels(bag, truth, bundle.spec.tasks, bundle.model_id)
    digest = bag_digest(path)
    recordings: dict[str, list[Recording]] = {}
    times = []
    for bundle in result.bundles:
        folder = output / BAGS / name / bundle.model_id
        key = _predictions_key(digest, bundle, plan, topics)
        predictions = _load_finished(folder, key)
        resumed = predictions is not None
        if predictions is None:
            predictions = _recognise(
                bag, topics, bundle, models, plan, folder, key=key, shown=shown
            )
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
                recorded_seconds=round(recorded_ns / NANOSECONDS, 3),
                resumed=resumed,
            )
        )
    # The images' times and the true labels are the same for every bundle.
    outside = 0
    for each in recordings[result.bundles[0].title]:
        first_ns, last_ns = each.predictions.first_ns, each.predictions.last_ns
        if not source.is_file:
            outside += cut_outside(each.truth, first_ns=first_ns, last_ns=last_ns)
        check_within(path, each.predictions.topic, each.truth, first_ns=first_ns, last_ns=last_ns)
    result.times += times
    result.label_sources[name] = source
    if outside:
        result.labels_outside[name] = outside
    return recordings


def _image_topics(bag: BagReader, topics: Sequence[str]) -> tuple[str, ...]:
    if topics:
        bag.require_images(topics)
        return tuple(topics)
    if not bag.image_topics:
        raise BagError(bag.path, f'it has no topic with images; it holds {bag.describe_topics()}')
    pictures = choose_pictures(bag)
    if not pictures.topics:
        raise BagError(
            bag.path,
            f'it has no topic with pictures; {pictures.describe()}; name a topic with --topic to '
            'replay it all the same',
        )
    return pictures.topics


def _predictions_key(
    digest: str, bundle: ReplayedBundle, plan: ReplayPlan, topics: Sequence[str]
) -> str:
    """Return a digest of everything that determines the predictions."""
    return digest_of(
        {
            'format': FORMAT,
            'bag': digest,
            'bundle': bundle.model_id,
            'topics': list(topics),
            'settings': asdict(plan.settings),
            'top_k': plan.top_k,
            'device': plan.device.type,
            # These set the order of summation, and so the last bit of a score.
            'threads': torch.get_num_threads(),
            'torch': torch.__version__,
        }
    )


def _load_finished(folder: Path, key: str) -> BagPredictions | None:
    """Return the predictions of an earlier run, or None where there are none with this key."""
    try:
        predictions = load_predictions(folder)
    except (OSError, ValueError, KeyError):
        # The folder is missing or damaged, or an older version wrote it.
        return None
    return predictions if predictions.key == key else None


def _recognise(
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
    """Run a bundle on a bag, and replace the folder of its predictions once it has finished."""
    model, encoder = models.load(bundle)
    with replace_folder(folder) as partial:
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
        # Predictions of other settings or of a damaged run make way only now.
        shutil.rmtree(folder, ignore_errors=True)
    return predictions

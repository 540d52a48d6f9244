"""A cache of a frozen backbone's tokens: encoded once, read by every training run.

Extraction can be killed at any time: finished shards stay, the rest is done when it runs again.
Any number of processes may extract into one cache at once; each takes shards that no other holds.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from step_ros.datasets.clip import ClipRecord
from step_ros.io.video import VideoError
from step_ros.reporting.progress import track
from step_ros.training.feature_cache.shard import Failure, Shard, ShardWriter, shard_files
from step_ros.training.feature_cache.spec import (
    CacheError,
    CacheEstimate,
    CacheSpec,
    check_room,
    free_bytes,
)

MANIFEST = 'manifest.json'
SHARD_CLIPS = 64

LoadView = Callable[[ClipRecord, int], np.ndarray]
Encode = Callable[[np.ndarray], Tensor]


class FeatureCache:
    """A finished cache, for reading.

    Args:
        folder: Its folder, as `extract` returned it.
        spec: What is expected in it; None takes what is there.

    Attributes:
        folder: Its folder.
        spec: What it holds.
        clips: Names of the clips in it.
        failures: Clips that could not be encoded.

    Raises:
        CacheError: It is missing, unfinished, damaged or holds something else.
    """

    def __init__(self, folder: Path, spec: CacheSpec | None = None) -> None:
        manifest = folder / MANIFEST
        if not manifest.is_file():
            raise CacheError(manifest, 'no such file; a cache is a folder that extraction made')
        content = json.loads(manifest.read_text(encoding='utf-8'))
        self.folder = folder
        self.spec = CacheSpec.model_validate(content['spec'])
        if spec is not None:
            _check_same(manifest, self.spec, spec)
        self._shards = [
            Shard(folder, number, self.spec) for number in range(len(content['shards']))
        ]
        self._places = {
            clip: (shard, place)
            for shard in self._shards
            for place, clip in enumerate(shard.clips)
        }
        self.clips = list(self._places)
        self.failures: list[Failure] = [
            failure for shard in self._shards for failure in shard.failures
        ]

    def __contains__(self, clip_id: str) -> bool:
        return clip_id in self._places

    def read(self, clip_id: str, view: int) -> Tensor:
        """Return the tokens of one view of a clip, float32, `[t, n, d]`.

        Raises:
            KeyError: The clip is not in the cache.
            CacheError: Its tokens are not finite.
        """
        shard, place = self._places[clip_id]
        return torch.from_numpy(shard.read(place, view))

    def verify(self) -> None:
        """Compare all checksums.

        Raises:
            CacheError: One differs; names the file.
        """
        for shard in track(self._shards, 'verify the cache', len(self._shards)):
            shard.verify()


def estimate(
    root: Path, spec: CacheSpec, records: Sequence[ClipRecord], *, shard_clips: int = SHARD_CLIPS
) -> CacheEstimate:
    """Say how much a cache will hold and how much of it is there already; nothing is written.

    Args:
        root: Folder of all caches.
        spec: What this one holds.
        records: The clips.
        shard_clips: Clips in a file.
    """
    folder = root / spec.key
    shards = _shards(folder, records, shard_clips)
    return CacheEstimate(
        folder=folder,
        clips=len(records),
        clips_left=sum(len(shards[number]) for number in _missing(folder, shards)),
        clip_bytes=spec.clip_bytes,
        free_bytes=free_bytes(folder),
    )


def extract(
    root: Path,
    spec: CacheSpec,
    records: Sequence[ClipRecord],
    load: LoadView,
    encode: Encode,
    *,
    shard_clips: int = SHARD_CLIPS,
    workers: int = 0,
) -> Path:
    """Encode all views of all clips into a cache, as far as that is not done yet.

    Says beforehand how much it will be.

    Args:
        root: Folder of all caches.
        spec: What this one holds.
        records: The clips.
        load: Gives the images of one view of a clip, uint8 RGB, `[t, h, w, 3]`; a `VideoError` or
            `ValueError` means that the clip cannot be used, and is noted.
        encode: Turns these images into tokens, `[t, n, d]`.
        shard_clips: Clips in a file.
        workers: Processes that load.

    Returns:
        The cache's folder.

    Raises:
        CacheError: The disk has no room for it, clips have the same name, or the folder belongs to
            another list of clips.
    """
    expected = estimate(root, spec, records, shard_clips=shard_clips)
    folder = expected.folder
    Console().print(str(expected), soft_wrap=True, markup=False, highlight=False)
    check_room([expected])
    shards = _shards(folder, records, shard_clips)
    folder.mkdir(parents=True, exist_ok=True)
    _write_manifest(folder, spec, [[record.clip_id for record in part] for part in shards])

    def encode_left() -> Iterator[ClipRecord]:
        left = _missing(folder, shards)
        # First those that nobody works on; then wait for the others, and do what they left undone.
        for wait in (False, True):
            busy = []
            for number in left:
                with _held(folder, number, wait=wait) as mine:
                    if not mine:
                        busy.append(number)
                    elif _done(folder, number):
                        yield from shards[number]  # another process was quicker
                    else:
                        yield from _encode_shard(
                            folder, number, spec, shards[number], load, encode, workers
                        )
            left = busy

    for _ in track(encode_left(), 'encode clips', expected.clips_left):
        pass
    return folder


def _shards(
    folder: Path, records: Sequence[ClipRecord], shard_clips: int
) -> list[list[ClipRecord]]:
    ordered = sorted(records, key=lambda record: record.clip_id)
    for one, other in pairwise(ordered):
        if one.clip_id == other.clip_id:
            raise CacheError(folder, f'two clips have the name {one.clip_id!r}')
    return [ordered[at : at + shard_clips] for at in range(0, len(ordered), shard_clips)]


def _missing(folder: Path, shards: Sequence[Sequence[ClipRecord]]) -> list[int]:
    return [number for number in range(len(shards)) if not _done(folder, number)]


def _encode_shard(
    folder: Path,
    number: int,
    spec: CacheSpec,
    records: Sequence[ClipRecord],
    load: LoadView,
    encode: Encode,
    workers: int,
) -> Iterator[ClipRecord]:
    """Give each clip of a shard once it is encoded."""
    writer = ShardWriter(folder, number, spec)
    try:
        loader = DataLoader(
            _Views(records, spec.views, load),
            batch_size=None,
            num_workers=workers,
            # torch would make tensors of the images.
            collate_fn=_as_it_is,
        )
        for record, views in zip(records, loader, strict=True):
            if isinstance(views, str):
                writer.fail(record.clip_id, views)
            else:
                tokens = torch.stack([encode(images) for images in views])
                writer.add(record.clip_id, tokens.float().cpu().numpy())
            yield record
        writer.finish()
    except OSError as error:
        writer.discard()
        raise CacheError(folder, f'shard {number} cannot be written: {error}') from error
    except BaseException:
        writer.discard()
        raise


class _Views(Dataset[list[np.ndarray] | str]):
    """All views of each clip, or why there are none."""

    def __init__(self, records: Sequence[ClipRecord], views: int, load: LoadView) -> None:
        self._records, self._views, self._load = records, views, load

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> list[np.ndarray] | str:
        try:
            return [self._load(self._records[index], view) for view in range(self._views)]
        except (VideoError, ValueError) as error:
            return str(error)


def _as_it_is(views: list[np.ndarray] | str) -> list[np.ndarray] | str:
    return views


def _done(folder: Path, number: int) -> bool:
    return shard_files(folder, number)[1].is_file()


@contextmanager
def _held(folder: Path, number: int, *, wait: bool) -> Iterator[bool]:
    """Hold a shard's lock; the system lets go of it when a process dies."""
    with (folder / f'shard-{number:05d}.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _write_manifest(folder: Path, spec: CacheSpec, shards: list[list[str]]) -> None:
    path = folder / MANIFEST
    content = {'spec': spec.model_dump(mode='json'), 'shards': shards}
    if path.is_file():
        if json.loads(path.read_text(encoding='utf-8')) != content:
            raise CacheError(
                path,
                'the cache was made of other clips or other shards; give the dataset another '
                'name, or delete the folder',
            )
        return
    partial = path.with_suffix(f'.partial-{os.getpid()}')
    partial.write_text(json.dumps(content), encoding='utf-8')
    partial.replace(path)


def _check_same(manifest: Path, found: CacheSpec, expected: CacheSpec) -> None:
    for field in CacheSpec.model_fields:
        there, wanted = getattr(found, field), getattr(expected, field)
        if there != wanted:
            raise CacheError(
                manifest, f'{field} is {there!r}, expected {wanted!r}; extract the tokens again'
            )

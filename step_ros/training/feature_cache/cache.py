# SPDX-License-Identifier: Apache-2.0
"""A cache of a frozen backbone's tokens: encoded once, read by every training run.

A cache is a folder of shards, files of up to 64 clips, and a manifest that names the clips of each
shard. Extraction can be killed at any time: finished shards stay, and the next call encodes the
others. Several processes may extract into one cache at once: each encodes the shards whose lock it
gets.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from step_ros.datasets.clip import ClipRecord
from step_ros.files import replace_file
from step_ros.io.video import VideoError
from step_ros.reporting.progress import track
from step_ros.training.feature_cache.shard import Failure, Shard, shard_files, write_shard
from step_ros.training.feature_cache.spec import (
    CacheError,
    CacheEstimate,
    CacheSpec,
    check_room,
    free_bytes,
)
from step_ros.training.lock import file_lock

MANIFEST = 'manifest.json'
SHARD_CLIPS = 64

LoadView = Callable[[ClipRecord, int], np.ndarray]
Encode = Callable[[np.ndarray], Tensor]


class FeatureCache:
    """A finished cache, for reading.

    Args:
        folder: Folder of the cache, as `extract` returned it.
        spec: The expected content; None accepts any.

    Attributes:
        folder: Folder of the cache.
        spec: The content.
        clips: Names of the clips in it.
        failures: Clips that could not be encoded.

    Raises:
        CacheError: The cache is missing, unfinished, damaged or holds other tokens.
    """

    def __init__(self, folder: Path, spec: CacheSpec | None = None) -> None:
        manifest = folder / MANIFEST
        if not manifest.is_file():
            raise CacheError(manifest, 'no such file; expected the folder of a token cache')
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
            CacheError: The clip's tokens are not finite.
        """
        shard, place = self._places[clip_id]
        return torch.from_numpy(shard.read(place, view))

    def verify(self) -> None:
        """Compare the checksums of all shards.

        Raises:
            CacheError: A checksum differs; names the file.
        """
        for shard in track(self._shards, 'verify the cache', len(self._shards)):
            shard.verify()


def estimate(
    root: Path, spec: CacheSpec, records: Sequence[ClipRecord], *, shard_clips: int = SHARD_CLIPS
) -> CacheEstimate:
    """Return the size of a cache and how much of it is encoded already; writes nothing.

    Args:
        root: Folder of all caches.
        spec: Content of the cache.
        records: The clips.
        shard_clips: Clips in a shard.
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
    """Encode all views of the clips that the cache lacks, and return the cache's folder.

    Prints the size first.

    Args:
        root: Folder of all caches.
        spec: Content of the cache.
        records: The clips.
        load: Returns the images of one view of a clip, uint8 RGB, `[t, h, w, 3]`. A `VideoError`
            or `ValueError` means that the clip cannot be used; the cache notes the reason.
        encode: Turns these images into tokens, `[t, n, d]`.
        shard_clips: Clips in a shard.
        workers: Processes that load.

    Raises:
        CacheError: The disk has no room, two clips have the same name, or the folder belongs to
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
        # First the shards that no other process holds. Then wait for each of the others, and
        # encode it if its process died.
        for wait in (False, True):
            busy = []
            for number in left:
                with file_lock(folder / f'shard-{number:05d}.lock', wait=wait) as held:
                    if not held:
                        busy.append(number)
                    elif _done(folder, number):
                        yield from shards[number]  # another process has finished it meanwhile
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
    """Encode a shard; yield each clip once it is encoded."""
    try:
        with write_shard(folder, number, spec) as writer:
            loader = DataLoader(
                _Views(records, spec.views, load),
                batch_size=None,
                num_workers=workers,
                # torch's own function would turn the images into tensors.
                collate_fn=_unchanged,
            )
            for record, views in zip(records, loader, strict=True):
                if isinstance(views, str):
                    writer.fail(record.clip_id, views)
                else:
                    tokens = torch.stack([encode(images) for images in views])
                    writer.add(record.clip_id, tokens.float().cpu().numpy())
                yield record
    except OSError as error:
        raise CacheError(folder, f'shard {number} cannot be written: {error}') from error


class _Views(Dataset[list[np.ndarray] | str]):
    """All views of each clip, or the reason why they cannot be loaded."""

    def __init__(self, records: Sequence[ClipRecord], views: int, load: LoadView) -> None:
        self._records, self._views, self._load = records, views, load

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> list[np.ndarray] | str:
        try:
            return [self._load(self._records[index], view) for view in range(self._views)]
        except (VideoError, ValueError) as error:
            return str(error)


def _unchanged(views: list[np.ndarray] | str) -> list[np.ndarray] | str:
    return views


def _done(folder: Path, number: int) -> bool:
    return shard_files(folder, number)[1].is_file()


def _write_manifest(folder: Path, spec: CacheSpec, shards: list[list[str]]) -> None:
    path = folder / MANIFEST
    content = {'spec': spec.model_dump(mode='json'), 'shards': shards}
    # Processes that begin at once would take each other's unfinished file away.
    with file_lock(path.with_suffix('.lock')):
        if not path.is_file():
            with replace_file(path) as partial:
                partial.write_text(json.dumps(content), encoding='utf-8')
        elif json.loads(path.read_text(encoding='utf-8')) != content:
            raise CacheError(
                path,
                'the cache was made of other clips or other shards; give the dataset another '
                'name, or delete the folder',
            )


def _check_same(manifest: Path, found: CacheSpec, expected: CacheSpec) -> None:
    for field in CacheSpec.model_fields:
        there, wanted = getattr(found, field), getattr(expected, field)
        if there != wanted:
            raise CacheError(
                manifest, f'{field} is {there!r}, expected {wanted!r}; extract the tokens again'
            )

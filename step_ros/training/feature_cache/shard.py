# SPDX-License-Identifier: Apache-2.0
"""A shard of a feature cache: tokens of some clips, memory-mapped, with an index and a checksum.

    shard-00003.bin     tokens of clip 0, clip 1, ...; for signed bytes, then scales of clip 0, ...
    shard-00003.json    names of the clips, failures, checksum and size of the .bin file

The index is written last: a shard without an index is not finished.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from step_ros.files import replace_file
from step_ros.model.weights import file_digest
from step_ros.training.feature_cache.spec import CacheError, CacheSpec, to_bytes


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A clip that could not be encoded: the cache does not contain it.

    Attributes:
        clip_id: Name of the clip.
        why: Reason.
    """

    clip_id: str
    why: str


@contextmanager
def write_shard(folder: Path, number: int, spec: CacheSpec) -> Iterator['ShardWriter']:
    """Yield a writer of one shard; the cache gets the shard at the end, unless the block raises.

    Args:
        folder: Folder of the cache.
        number: Number of the shard. No other process may write it at the same time.
        spec: Content of the cache.
    """
    data, index = shard_files(folder, number)
    with replace_file(data) as partial, partial.open('wb') as file:
        writer = ShardWriter(file, data, spec)
        yield writer
        content = writer.finish()
    with replace_file(index) as partial:
        partial.write_text(json.dumps(content), encoding='utf-8')


class ShardWriter:
    """Writes the tokens of a shard's clips.

    Args:
        file: The open file.
        path: Path that the file will have, for messages.
        spec: Content of the cache.
    """

    def __init__(self, file: BinaryIO, path: Path, spec: CacheSpec) -> None:
        self._file, self._path, self._spec = file, path, spec
        self._sha = hashlib.sha256()
        self._bytes = 0
        self._scales: list[np.ndarray] = []
        self._clips: list[str] = []
        self._failures: list[Failure] = []

    def add(self, clip_id: str, x_vtnd: np.ndarray) -> None:
        """Add a clip's tokens.

        Raises:
            CacheError: The tokens have another shape, or values that are not finite.
        """
        if x_vtnd.shape != self._spec.shape:
            raise CacheError(
                self._path,
                f'clip {clip_id!r} has tokens {x_vtnd.shape}, expected {self._spec.shape}',
            )
        x_vtnd = np.asarray(x_vtnd, dtype=np.float32)
        # The largest half float is 65504; signed bytes have a scale and no such limit.
        largest = np.abs(x_vtnd).max(initial=0)
        if not largest <= (np.finfo(np.float16).max if self._spec.dtype == 'float16' else 1e30):
            raise CacheError(
                self._path,
                f'clip {clip_id!r} has tokens that are not finite, or too large: {largest:g}',
            )
        tokens, scales = to_bytes(x_vtnd, self._spec.dtype)
        self._write(tokens)
        if scales is not None:
            self._scales.append(scales)
        self._clips.append(clip_id)

    def fail(self, clip_id: str, why: str) -> None:
        """Note a clip that cannot be encoded, and the reason."""
        self._failures.append(Failure(clip_id=clip_id, why=why))

    def finish(self) -> dict[str, Any]:
        """Write the scales and return the shard's index."""
        for scales in self._scales:
            self._write(scales)
        self._file.flush()
        os.fsync(self._file.fileno())
        return {
            'clips': self._clips,
            'failures': [vars(failure) for failure in self._failures],
            'sha256': self._sha.hexdigest(),
            'bytes': self._bytes,
        }

    def _write(self, array: np.ndarray) -> None:
        content = np.ascontiguousarray(array).tobytes()
        self._sha.update(content)
        self._file.write(content)
        self._bytes += len(content)


class Shard:
    """A finished shard, for reading.

    Args:
        folder: Folder of the cache.
        number: Number of the shard.
        spec: Content of the cache.

    Attributes:
        clips: Names of the clips in the shard, in order.
        failures: Clips of the shard that could not be encoded.

    Raises:
        CacheError: The shard is not finished, or its size is not that of its index.
    """

    def __init__(self, folder: Path, number: int, spec: CacheSpec) -> None:
        self._spec = spec
        self._data, index = shard_files(folder, number)
        if not index.is_file():
            raise CacheError(
                index, 'the shard is not finished; extract again to encode the missing clips'
            )
        content: dict[str, Any] = json.loads(index.read_text(encoding='utf-8'))
        self.clips: list[str] = content['clips']
        self.failures = [Failure(**failure) for failure in content['failures']]
        self._sha256: str = content['sha256']
        size = self._data.stat().st_size if self._data.is_file() else 0
        expected = len(self.clips) * spec.clip_bytes
        if size != content['bytes'] or size != expected:
            raise CacheError(
                self._data,
                f'{size} bytes, expected {expected}; delete the shard and extract again',
            )
        self._tokens: np.ndarray | None = None
        self._scales: np.ndarray | None = None

    def verify(self) -> None:
        """Compare the checksum of the data with that of the index.

        Raises:
            CacheError: The checksums differ.
        """
        if file_digest(self._data) != f'sha256:{self._sha256}':
            raise CacheError(
                self._data,
                'the content differs from its checksum; delete the shard and extract again',
            )

    def read(self, place: int, view: int) -> np.ndarray:
        """Return one view of a clip, float32, `[t, n, d]`.

        Raises:
            CacheError: The clip has values that are not finite.
        """
        self._map()
        assert self._tokens is not None
        x_tnd: np.ndarray = self._tokens[place, view].astype(np.float32)
        if self._scales is not None:
            x_tnd *= self._scales[place, view][..., None]
        if not np.isfinite(x_tnd).all():
            raise CacheError(
                self._data, f'clip {self.clips[place]!r} has tokens that are not finite'
            )
        return x_tnd

    def _map(self) -> None:
        if self._tokens is not None or not self.clips:
            return
        shape = (len(self.clips), *self._spec.shape)
        dtype = np.dtype(self._spec.dtype)
        self._tokens = np.memmap(self._data, dtype=dtype, mode='r', shape=shape)
        if self._spec.dtype == 'int8':
            self._scales = np.memmap(
                self._data,
                dtype=np.float32,
                mode='r',
                shape=shape[:-1],
                offset=self._tokens.nbytes,
            )


def shard_files(folder: Path, number: int) -> tuple[Path, Path]:
    """Return the paths of a shard's files: data and index."""
    return folder / f'shard-{number:05d}.bin', folder / f'shard-{number:05d}.json'

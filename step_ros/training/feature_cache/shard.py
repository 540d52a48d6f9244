"""One file of a feature cache: some clips' tokens, memory-mapped, with a checksum beside it.

`shard-00003.bin` holds the tokens of its clips, one after the other, and then, for signed bytes,
their scales. `shard-00003.json` is written last: a shard without it is not finished.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from step_ros.model.weights import file_digest
from step_ros.training.feature_cache.spec import CacheError, CacheSpec, to_bytes


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A clip that could not be encoded; it is in no cache and nothing takes its place."""

    clip_id: str
    why: str


class ShardWriter:
    """Writes one shard; nothing of it counts before `finish`.

    Args:
        folder: Folder of the cache.
        number: Number of the shard.
        spec: What the cache holds.
    """

    def __init__(self, folder: Path, number: int, spec: CacheSpec) -> None:
        self._spec = spec
        self._data, self._index = shard_files(folder, number)
        self._partial = self._data.with_suffix(f'.partial-{os.getpid()}')
        self._file = self._partial.open('wb')
        self._sha = hashlib.sha256()
        self._scales: list[np.ndarray] = []
        self._clips: list[str] = []
        self._failures: list[Failure] = []

    def add(self, clip_id: str, x_vtnd: np.ndarray) -> None:
        """Add a clip's tokens.

        Raises:
            CacheError: They have another shape, or values that are not finite.
        """
        if x_vtnd.shape != self._spec.shape:
            raise CacheError(
                self._data,
                f'clip {clip_id!r} has tokens {x_vtnd.shape}, expected {self._spec.shape}',
            )
        x_vtnd = np.asarray(x_vtnd, dtype=np.float32)
        # Half floats end at 65504; signed bytes have a scale and no such end.
        largest = np.abs(x_vtnd).max(initial=0)
        if not largest <= (np.finfo(np.float16).max if self._spec.dtype == 'float16' else 1e30):
            raise CacheError(
                self._data,
                f'clip {clip_id!r} has tokens that are not finite, or too large: {largest:g}',
            )
        tokens, scales = to_bytes(x_vtnd, self._spec.dtype)
        self._write(tokens)
        if scales is not None:
            self._scales.append(scales)
        self._clips.append(clip_id)

    def fail(self, clip_id: str, why: str) -> None:
        """Take note of a clip that cannot be encoded."""
        self._failures.append(Failure(clip_id=clip_id, why=why))

    def finish(self) -> None:
        """Put the shard into the cache, whole or not at all."""
        for scales in self._scales:
            self._write(scales)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._data)
        content = {
            'clips': self._clips,
            'failures': [vars(failure) for failure in self._failures],
            'sha256': self._sha.hexdigest(),
            'bytes': self._data.stat().st_size,
        }
        partial = self._index.with_suffix(f'.partial-{os.getpid()}')
        partial.write_text(json.dumps(content), encoding='utf-8')
        partial.replace(self._index)

    def discard(self) -> None:
        """Forget what was written."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _write(self, array: np.ndarray) -> None:
        content = np.ascontiguousarray(array).tobytes()
        self._sha.update(content)
        self._file.write(content)


class Shard:
    """A finished shard, for reading.

    Args:
        folder: Folder of the cache.
        number: Number of the shard.
        spec: What the cache holds.

    Attributes:
        clips: Names of the clips in it, in order.
        failures: Clips that belong here but could not be encoded.

    Raises:
        CacheError: It is not finished, or has not the size that its index says.
    """

    def __init__(self, folder: Path, number: int, spec: CacheSpec) -> None:
        self._spec = spec
        self._data, index = shard_files(folder, number)
        if not index.is_file():
            raise CacheError(
                index, 'the shard is not finished; extract again, which does what is left'
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
        """Compare the checksum.

        Raises:
            CacheError: It differs.
        """
        if file_digest(self._data) != f'sha256:{self._sha256}':
            raise CacheError(
                self._data,
                'the content is not what was written; delete the shard and extract again',
            )

    def read(self, place: int, view: int) -> np.ndarray:
        """Return one view of a clip, float32, `[t, n, d]`.

        Raises:
            CacheError: It has values that are not finite.
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
    """Return the files of a shard: data and index."""
    return folder / f'shard-{number:05d}.bin', folder / f'shard-{number:05d}.json'

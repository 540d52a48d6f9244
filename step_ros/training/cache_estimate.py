"""How large a feature cache will be, said before the work, and refused where it does not fit."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from step_ros.training.cache_spec import CacheError

# Left free on the disk: other programs write too.
SPARE_SHARE = 0.02


@dataclass(frozen=True, kw_only=True)
class CacheEstimate:
    """What a cache will hold, and what of it is left to do.

    Attributes:
        folder: The cache's folder.
        clips: Clips in all.
        clips_left: Clips not yet encoded.
        clip_bytes: Bytes of each.
        free_bytes: Bytes that its disk has room for.
    """

    folder: Path
    clips: int
    clips_left: int
    clip_bytes: int
    free_bytes: int

    @property
    def bytes_left(self) -> int:
        """Bytes not yet written."""
        return self.clips_left * self.clip_bytes

    def __str__(self) -> str:
        size = decimal(self.clips * self.clip_bytes)
        if not self.clips_left:
            return f'{self.folder}: all {self.clips} clips are encoded, {size}'
        return (
            f'{self.folder}: {self.clips_left} of {self.clips} clips to encode, '
            f'{decimal(self.bytes_left)} of {size}; the disk has room for '
            f'{decimal(self.free_bytes)}'
        )


def free_bytes(folder: Path) -> int:
    """Return how much may be written to the disk of a folder, which need not exist yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    disk = shutil.disk_usage(there)
    return max(0, int(disk.free - SPARE_SHARE * disk.total))


def check_room(estimates: Sequence[CacheEstimate]) -> None:
    """Refuse caches that do not fit on their disk together.

    Args:
        estimates: The caches, all on one disk.

    Raises:
        CacheError: They do not; says how much is lacking.
    """
    needed = sum(estimate.bytes_left for estimate in estimates)
    free = min((estimate.free_bytes for estimate in estimates), default=0)
    if needed > free:
        raise CacheError(
            estimates[0].folder.parent,
            f'the caches need {decimal(needed)}, the disk has room for '
            f'{decimal(free)}; make room, keep fewer views, or keep them as '
            'int8',
        )

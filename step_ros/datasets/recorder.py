# SPDX-License-Identifier: Apache-2.0
"""Record examples: one video or bag for each, named by a row of `annotations.csv`.

An example is finished before its row is written, and `annotations.csv` is replaced as a whole. So
every row names a complete example, also after a crash.
"""

import csv
import io
import os
import shutil
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from step_ros.datasets.clip import ANNOTATIONS
from step_ros.datasets.readers.csv import COLUMNS, OPTIONAL, PARTS
from step_ros.io.video import VideoWriter
from step_ros.reporting.installation import how_to_install
from step_ros.streaming.grid import NANOSECONDS

Format = Literal['video', 'bag']
BAG_TOPIC = '/camera/image_raw'
# Marks an unfinished example.
_PARTIAL = '.partial'
_PREFIX = 'example-'
# Constant rate factor of H.264: examples are small and few, so compression artefacts are avoided.
_QUALITY = 18


class RecordError(RuntimeError):
    """An example cannot be recorded."""


class _Writer(Protocol):
    def write(self, image_hw3: np.ndarray, stamp_ns: int) -> None: ...

    def close(self) -> None: ...


class ExampleRecorder:
    """Record examples of one task into a folder.

    Args:
        folder: Created if it does not exist; its files are kept.
        task: Column of the labels in `annotations.csv`.
        split: `train`, `val` or `test`.
        rate: Nominal frames per second.
        kind: `video` for MP4 files, `bag` for rosbag2 folders.

    Raises:
        RecordError: The folder's annotations are unreadable or belong to another task.
    """

    def __init__(
        self, folder: Path, *, task: str, split: str, rate: float, kind: Format = 'video'
    ) -> None:
        if split not in PARTS:
            raise RecordError(f'split {split!r}: expected one of {", ".join(PARTS)}')
        if not task.strip() or task in (*COLUMNS, *OPTIONAL):
            raise RecordError(
                f'task {task!r}: expected a name other than {", ".join((*COLUMNS, *OPTIONAL))}'
            )
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._task, self._split = folder, task, split
        self._rate, self._kind = rate, kind
        self._columns()
        self._label = ''
        self._writer: _Writer | None = None
        self._path = folder
        self._stamps_ns: list[int] = []

    @property
    def recording(self) -> bool:
        """Whether an example is being recorded."""
        return bool(self._label)

    def begin(self, label: str) -> None:
        """Begin an example.

        Raises:
            RecordError: An example is being recorded, or the label is empty.
        """
        if self.recording:
            raise RecordError(
                f'an example of {self._label!r} is still being recorded; end or drop it first'
            )
        if not label.strip():
            raise RecordError('an example needs a label')
        self._label = label
        self._stamps_ns = []

    def write(self, image_hw3: np.ndarray, stamp_ns: int) -> None:
        """Add a frame, uint8 RGB `[h, w, 3]`; skip it unless it is later than the last one."""
        if not self.recording or (self._stamps_ns and stamp_ns <= self._stamps_ns[-1]):
            return
        # H.264 needs even sizes, so an odd last row or column is cut off.
        height, width = (size - size % 2 for size in image_hw3.shape[:2])
        if self._writer is None:
            self._path = self._folder / f'{_PREFIX}{self._next_number():04d}'
            self._writer = self._open((width, height))
        self._writer.write(image_hw3[:height, :width], stamp_ns)
        self._stamps_ns.append(stamp_ns)

    def end(self) -> str:
        """Finish the example and add its row to `annotations.csv`.

        Returns:
            Name of the video or bag; empty if it had fewer than two frames and was dropped.

        Raises:
            RecordError: No example is being recorded.
        """
        if not self.recording:
            raise RecordError('no example is being recorded; begin one first')
        label, stamps_ns, writer = self._label, self._stamps_ns, self._writer
        if writer is None or len(stamps_ns) < 2:
            self.drop()
            return ''
        self._label, self._writer = '', None
        writer.close()
        name = self._path.name + self._suffix
        self._partial.replace(self._folder / name)
        # The last frame counts with the median length of the others.
        step_ns = float(np.median(np.diff(stamps_ns)))
        seconds = (stamps_ns[-1] - stamps_ns[0] + step_ns) / NANOSECONDS
        self._append(name, f'{seconds:.3f}', label)
        return name

    def drop(self) -> None:
        """Discard the example that is being recorded."""
        self._label = ''
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            _remove(self._partial)

    @property
    def _suffix(self) -> str:
        return '.mp4' if self._kind == 'video' else ''

    @property
    def _partial(self) -> Path:
        return self._path.with_name(f'{self._path.name}{_PARTIAL}{self._suffix}')

    def _next_number(self) -> int:
        """Return a number above those of all examples, unfinished ones included."""
        numbers = [0]
        for path in self._folder.glob(f'{_PREFIX}*'):
            digits = path.name.removeprefix(_PREFIX).split('.')[0]
            numbers += [int(digits)] if digits.isdigit() else []
        return max(numbers) + 1

    def _open(self, size: tuple[int, int]) -> _Writer:
        if self._kind == 'bag':
            return _Bag(self._partial)
        # The encoder creates its file late; an empty file reserves the number for this process.
        self._partial.touch(exist_ok=False)
        return VideoWriter(self._partial, size=size, rate=self._rate, quality=_QUALITY)

    def _columns(self) -> list[str]:
        """Return the columns of `annotations.csv`; those of a new file if it does not exist."""
        path = self._folder / ANNOTATIONS
        if not path.is_file():
            return [*COLUMNS, self._task]
        try:
            with path.open(encoding='utf-8-sig', newline='') as file:
                names = [name.strip() for name in next(csv.reader(file), [])]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise RecordError(f'{path}: not readable: {error}; move it away') from error
        if set(names) - set(OPTIONAL) != {*COLUMNS, self._task}:
            raise RecordError(
                f'{path}: its columns are {", ".join(names)}; expected '
                f'{", ".join((*COLUMNS, self._task))}: choose the task of its columns or another '
                'folder'
            )
        return names

    def _append(self, name: str, seconds: str, label: str) -> None:
        """Add a row by replacing the file with a longer one."""
        path = self._folder / ANNOTATIONS
        columns = self._columns()
        before = path.read_bytes().decode('utf-8') if path.is_file() else ''
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval='', lineterminator='\n')
        if not before:
            writer.writeheader()
        elif not before.endswith('\n'):
            text.write('\n')
        row = {'video': name, 'start': '0', 'end': seconds, 'split': self._split}
        writer.writerow({**row, self._task: label})
        # Not `replace_file`: several recorders may share a folder, so each needs its own partial
        # file, named by its process. The data are flushed to disk before the file is replaced.
        partial = path.with_name(f'{path.name}{_PARTIAL}-{os.getpid()}')
        with partial.open('w', encoding='utf-8', newline='') as file:
            file.write(before + text.getvalue())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


class _Bag:
    """Write one example as a bag of one camera."""

    def __init__(self, path: Path) -> None:
        # Imported late: it needs rosbags, which is optional.
        try:
            from step_ros.io.bags.writer import BagWriter
        except ModuleNotFoundError as error:
            missing = error.name or 'rosbags'
            raise RecordError(
                f'bags: the module {missing} is missing; {how_to_install(missing)}'
            ) from error
        self._writer = BagWriter(path)

    def write(self, image_hw3: np.ndarray, stamp_ns: int) -> None:
        """Add a frame, uint8 RGB `[h, w, 3]`."""
        self._writer.image(BAG_TOPIC, np.ascontiguousarray(image_hw3), stamp_ns, encoding='jpeg')

    def close(self) -> None:
        """Finish the bag."""
        self._writer.close()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

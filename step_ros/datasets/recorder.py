"""Recording examples: one video or bag for each, and a row of `annotations.csv` that names it.

An example is finished before its row is written, and the file of annotations is replaced as a
whole, so that whatever happens, every row names an example that is complete.
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
from step_ros.streaming.grid import NANOSECONDS

Format = Literal['video', 'bag']
BAG_TOPIC = '/camera/image_raw'
# Marks an example that is being recorded.
_PARTIAL = '.partial'
_PREFIX = 'example-'
# Examples are small and few; the encoder should not see blocks.
_QUALITY = 18


class RecordError(RuntimeError):
    """An example cannot be recorded here."""


class _Writer(Protocol):
    def write(self, image_hw3: np.ndarray, stamp_ns: int) -> None: ...

    def close(self) -> None: ...


class ExampleRecorder:
    """Records examples of one task into a folder.

    Args:
        folder: Made if it does not exist; what it holds is kept.
        task: Column of the labels in `annotations.csv`.
        split: `train`, `val` or `test`.
        rate: Nominal frames per second.
        kind: `video` for MP4 files, `bag` for rosbag2 folders.

    Raises:
        RecordError: The folder's annotations are of another task or not readable.
    """

    def __init__(
        self, folder: Path, *, task: str, split: str, rate: float, kind: Format = 'video'
    ) -> None:
        if split not in PARTS:
            raise RecordError(f'split {split!r}: expected one of {", ".join(PARTS)}')
        if not task.strip() or task in (*COLUMNS, *OPTIONAL):
            raise RecordError(f'task {task!r}: expected a name of its own')
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
        """Whether an example has begun."""
        return bool(self._label)

    def begin(self, label: str) -> None:
        """Begin an example.

        Raises:
            RecordError: One has begun already, or the label is empty.
        """
        if self.recording:
            raise RecordError(f'an example of {self._label!r} has begun and not ended')
        if not label.strip():
            raise RecordError('an example needs a label')
        self._label = label
        self._stamps_ns = []

    def write(self, image_hw3: np.ndarray, stamp_ns: int) -> None:
        """Add a frame, uint8 RGB, to the example; one that is not after the last is left out."""
        if not self.recording or (self._stamps_ns and stamp_ns <= self._stamps_ns[-1]):
            return
        # H.264 takes even sizes: the last row or column is left out.
        height, width = (size - size % 2 for size in image_hw3.shape[:2])
        if self._writer is None:
            self._path = self._folder / f'{_PREFIX}{self._next_number():04d}'
            self._writer = self._open((width, height))
        self._writer.write(image_hw3[:height, :width], stamp_ns)
        self._stamps_ns.append(stamp_ns)

    def end(self) -> str:
        """Finish the example and name it in `annotations.csv`.

        Returns:
            The video's or bag's name; empty if it had fewer than two frames and was dropped.

        Raises:
            RecordError: No example has begun.
        """
        if not self.recording:
            raise RecordError('no example has begun')
        label, stamps_ns, writer = self._label, self._stamps_ns, self._writer
        if writer is None or len(stamps_ns) < 2:
            self.drop()
            return ''
        self._label, self._writer = '', None
        writer.close()
        name = self._path.name + self._suffix
        self._partial.replace(self._folder / name)
        # The last frame lasts as long as the others do.
        step_ns = float(np.median(np.diff(stamps_ns)))
        seconds = (stamps_ns[-1] - stamps_ns[0] + step_ns) / NANOSECONDS
        self._append(name, f'{seconds:.3f}', label)
        return name

    def drop(self) -> None:
        """Forget the example that has begun."""
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
        """Return a number above all that are there, unfinished ones included."""
        numbers = [0]
        for path in self._folder.glob(f'{_PREFIX}*'):
            digits = path.name.removeprefix(_PREFIX).split('.')[0]
            numbers += [int(digits)] if digits.isdigit() else []
        return max(numbers) + 1

    def _open(self, size: tuple[int, int]) -> _Writer:
        if self._kind == 'bag':
            return _Bag(self._partial)
        # The encoder creates the file late; the number is taken now.
        self._partial.touch(exist_ok=False)
        return VideoWriter(self._partial, size=size, rate=self._rate, quality=_QUALITY)

    def _columns(self) -> list[str]:
        """Return the columns of the annotations, those of a new file if there is none."""
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
                f'{", ".join((*COLUMNS, self._task))}: choose its task or another folder'
            )
        return names

    def _append(self, name: str, seconds: str, label: str) -> None:
        """Add a row; the file is replaced by a longer one, never cut."""
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
        partial = path.with_name(f'{path.name}{_PARTIAL}-{os.getpid()}')
        with partial.open('w', encoding='utf-8', newline='') as file:
            file.write(before + text.getvalue())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


class _Bag:
    """A bag of one camera."""

    def __init__(self, path: Path) -> None:
        # Only here: videos are recorded without what writes bags.
        try:
            from step_ros.io.bags.writer import BagWriter
        except ModuleNotFoundError as error:
            raise RecordError(
                f"bags: the package {error.name} is missing: pip install 'step_ros[train]'"
            ) from error
        self._writer = BagWriter(path)

    def write(self, image_hw3: np.ndarray, stamp_ns: int) -> None:
        """Add a frame, uint8 RGB."""
        self._writer.image(BAG_TOPIC, np.ascontiguousarray(image_hw3), stamp_ns, encoding='jpeg')

    def close(self) -> None:
        """Finish the bag."""
        self._writer.close()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""`step_ros record`: examples of one's own actions, from a camera, a video or the tabletop."""

import os
import select
import sys
import termios
import time
import tty
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from step_ros.cli.common import say

if TYPE_CHECKING:
    from step_ros.cameras.recording import RecordCamera
    from step_ros.datasets.recorder import ExampleRecorder


# ---- Key presses in the terminal, without waiting for the return key.

# What ends a recording.
END = 'q'


class Keys:
    """Reads single keys from standard input; use it in a `with` statement.

    After it the terminal is as it was before, whatever happened.
    """

    def __enter__(self) -> 'Keys':
        self._file = sys.stdin.fileno()
        self._before: list[Any] = termios.tcgetattr(self._file)
        # Not flushed: what was pressed meanwhile counts.
        tty.setcbreak(self._file, termios.TCSADRAIN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def pressed(self, seconds: float) -> str:
        """Return the next key, or nothing when none is pressed in time; `q` without a terminal.

        Args:
            seconds: How long to wait; 0 does not wait.
        """
        ready, _, _ = select.select([self._file], [], [], max(0.0, seconds))
        if not ready:
            return ''
        try:
            return os.read(self._file, 1).decode('latin-1') or END
        except OSError:
            # The terminal was closed.
            return END


NANOSECONDS = 1_000_000_000

MOST_LABELS = 10

# Share of an example's length that must be there when the camera ends.
_LEAST = 0.8

HELP = 'space begins and ends an example, d drops it, {labels} choose the label, q ends'


def record(
    output: Annotated[Path, typer.Argument(help='Folder for the examples; more can be added.')],
    label: Annotated[
        list[str], typer.Option(help='A label to record; repeatable, 1 to 0 on the keyboard.')
    ],
    camera: Annotated[
        str,
        typer.Option(help='Number of a camera, a video file, or demo: the tabletop acts it out.'),
    ] = '0',
    task: Annotated[str, typer.Option(help='What the labels answer.')] = 'taught',
    split: Annotated[
        str, typer.Option(help='train, val (calibrates) or test (scores).')
    ] = 'train',
    seconds: Annotated[
        float | None,
        typer.Option(min=0.2, help='Take examples of this length by themselves, without keys.'),
    ] = None,
    countdown: Annotated[
        float, typer.Option(min=0, help='Seconds before each such example.')
    ] = 3.0,
    takes: Annotated[int, typer.Option(min=1, help='Such examples of each label.')] = 1,
    kind: Annotated[
        Literal['video', 'bag'], typer.Option('--format', help='MP4 files, or ROS 2 bags.')
    ] = 'video',
    seed: Annotated[int, typer.Option(min=0, help='First scene of the demo.')] = 0,
) -> None:
    """Record examples of actions for `step_ros teach`; no display is needed.

    In a terminal, keys mark start and end. With --seconds, examples are taken by themselves.
    """
    from step_ros.cameras.recording import DEMO, check_demo_label, open_camera
    from step_ros.datasets.recorder import ExampleRecorder, RecordError
    from step_ros.io.video import VideoError

    console = Console()
    try:
        if len(set(label)) != len(label) or len(label) > MOST_LABELS:
            raise RecordError(f'--label: expected up to {MOST_LABELS}, each once')
        if camera == DEMO:
            for name in label:
                check_demo_label(name)
        if seconds is None and not sys.stdin.isatty():
            raise RecordError('there is no terminal to press keys in; give --seconds S')
        source = open_camera(camera, seed=seed, split=split)
        try:
            recorder = ExampleRecorder(output, task=task, split=split, rate=source.rate, kind=kind)
            if seconds is None:
                counts = _by_keys(console, source, recorder, label)
            else:
                # The tabletop acts at once; a person needs time to get ready.
                wait = 0.0 if source.acts else countdown
                counts = _by_time(console, source, recorder, label * takes, seconds, wait)
        finally:
            source.close()
    except (RecordError, ValueError, VideoError) as error:
        say(console, error)
        raise typer.Exit(1) from error
    for name in label:
        _say(console, f'{name}: {counts[name]} examples')
    if not counts:
        raise typer.Exit(1)


def _by_time(
    console: Console,
    camera: 'RecordCamera',
    recorder: 'ExampleRecorder',
    labels: list[str],
    seconds: float,
    countdown: float,
) -> Counter[str]:
    """Take examples of a fixed length, by the frames' stamps, one label after the other."""
    counts: Counter[str] = Counter()
    for label in labels:
        begins_ns: int | None = None
        last_ns = 0
        announced = -1
        try:
            for stamp_ns, image_hw3 in camera.frames(label):
                if begins_ns is None:
                    begins_ns = stamp_ns + round(countdown * NANOSECONDS)
                left = (begins_ns - stamp_ns) / NANOSECONDS
                if left > 0:
                    if int(left) != announced:
                        announced = int(left)
                        _say(console, f'{label} in {announced + 1}')
                    continue
                if -left >= seconds:
                    break
                if not recorder.recording:
                    recorder.begin(label)
                    _say(console, f'{label}: now')
                recorder.write(image_hw3, stamp_ns)
                last_ns = stamp_ns
        except BaseException:
            # What was being recorded is not whole.
            recorder.drop()
            raise
        # A file may end in the middle of an example.
        whole = camera.acts or (
            begins_ns is not None and last_ns - begins_ns >= _LEAST * seconds * NANOSECONDS
        )
        if recorder.recording and not whole:
            recorder.drop()
        if not recorder.recording:
            _say(console, f'{label}: the camera ended before {seconds:g} s were there')
            break
        _ended(console, recorder, label, counts)
    return counts


def _by_keys(
    console: Console, camera: 'RecordCamera', recorder: 'ExampleRecorder', labels: list[str]
) -> Counter[str]:
    """Let keys mark start and end; frames of a file are shown at their own time."""
    pass  # SELFIMPORT

    counts: Counter[str] = Counter()
    digits = {str((place + 1) % 10): label for place, label in enumerate(labels)}
    for digit, name in digits.items():
        _say(console, f'{digit}: {name}')
    chosen = labels[0]
    with Keys() as keys:
        _say(console, HELP.format(labels=' '.join(digits)))
        _say(console, f'label: {chosen}')
        frames = camera.frames(chosen)
        offset_ns: int | None = None
        try:
            while True:
                given = next(frames, None)
                if given is None:
                    # The tabletop acts again, without end; a file has ended.
                    frames = camera.frames(chosen)
                    given = next(frames, None)
                if given is None:
                    _say(console, 'the video has ended')
                    break
                stamp_ns, image_hw3 = given
                now_ns = time.monotonic_ns()
                offset_ns = now_ns - stamp_ns if offset_ns is None else offset_ns
                wait = 0.0 if camera.live else (stamp_ns + offset_ns - now_ns) / NANOSECONDS
                key = keys.pressed(wait)
                if key and not camera.live:
                    left = stamp_ns + offset_ns - time.monotonic_ns()
                    time.sleep(max(0.0, left / NANOSECONDS))
                if key == 'q':
                    break
                if key == ' ' and recorder.recording:
                    _ended(console, recorder, chosen, counts)
                elif key == ' ':
                    recorder.begin(chosen)
                    _say(console, f'{chosen}: recording')
                elif key == 'd' and recorder.recording:
                    recorder.drop()
                    _say(console, 'dropped')
                elif key in digits and not recorder.recording:
                    chosen = digits[key]
                    _say(console, f'label: {chosen}')
                recorder.write(image_hw3, stamp_ns)
        except KeyboardInterrupt:
            _say(console, 'interrupted')
        finally:
            if recorder.recording:
                _ended(console, recorder, chosen, counts)
    return counts


def _ended(
    console: Console, recorder: 'ExampleRecorder', label: str, counts: Counter[str]
) -> None:
    name = recorder.end()
    if name:
        counts[label] += 1
    _say(console, f'{label}: {name}' if name else f'{label}: too short, dropped')


def _say(console: Console, text: str) -> None:
    # As text: labels may hold brackets.
    console.print(Text(text), soft_wrap=True)

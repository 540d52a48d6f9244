# SPDX-License-Identifier: Apache-2.0
"""`step_ros record`: records examples of your own actions from a camera, a video or the tabletop.

With `--seconds`, examples follow one another by the stamps of the frames (`_record_by_time`).
Without it, keys in the terminal mark start and end of each example (`_record_by_keys`, `Keys`).
"""

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

from step_ros.cli.common import open_console, print_error, print_text
from step_ros.cli.outputs import check_file, output_folder

if TYPE_CHECKING:
    from step_ros.cameras.recording import RecordCamera
    from step_ros.datasets.recorder import ExampleRecorder

# The key that ends a recording.
END = 'q'
HELP = 'space starts and ends an example, d drops it, {labels} choose the label, q ends'
MOST_LABELS = 10
# If the camera ends early, an example with this share of its length is still complete.
_LEAST = 0.8


def record(
    output: Annotated[
        Path,
        typer.Argument(
            callback=output_folder, help='Folder for the examples; a later run adds more.'
        ),
    ],
    label: Annotated[
        list[str], typer.Option(help='Label to record; repeatable. Keys 1 to 9 and 0 choose it.')
    ],
    camera: Annotated[
        str,
        typer.Option(help='Number of a camera, a video file, or demo for the synthetic tabletop.'),
    ] = '0',
    task: Annotated[
        str, typer.Option(help='Name of the task, to which the labels belong.')
    ] = 'taught',
    split: Annotated[
        str, typer.Option(help='train, val (for calibration) or test (for scores).')
    ] = 'train',
    seconds: Annotated[
        float | None,
        typer.Option(min=0.2, help='Record examples of this length, without keys.'),
    ] = None,
    countdown: Annotated[
        float, typer.Option(min=0, help='With --seconds: wait so long before each example.')
    ] = 3.0,
    takes: Annotated[int, typer.Option(min=1, help='With --seconds: examples of each label.')] = 1,
    kind: Annotated[
        Literal['video', 'bag'], typer.Option('--format', help='MP4 files, or ROS 2 bags.')
    ] = 'video',
    seed: Annotated[int, typer.Option(min=0, help='Number of the first tabletop scene.')] = 0,
) -> None:
    """Record examples of actions for `step_ros teach`; no display is needed.

    In a terminal, keys mark start and end. With --seconds, examples follow one another without
    keys.
    """
    from step_ros.cameras.recording import DEMO, check_demo_label, open_camera
    from step_ros.datasets.clip import ANNOTATIONS
    from step_ros.datasets.recorder import ExampleRecorder, RecordError
    from step_ros.io.video import VideoError

    console = open_console()
    try:
        if len(set(label)) != len(label) or len(label) > MOST_LABELS:
            raise RecordError(f'--label: expected up to {MOST_LABELS} labels, each once')
        if camera == DEMO:
            for name in label:
                check_demo_label(name)
        if seconds is None and not sys.stdin.isatty():
            raise RecordError('there is no terminal to press keys in; give --seconds S')
        check_file(output / ANNOTATIONS)
        source = open_camera(camera, seed=seed, split=split)
        try:
            recorder = ExampleRecorder(output, task=task, split=split, rate=source.rate, kind=kind)
            if seconds is None:
                counts = _record_by_keys(console, source, recorder, label)
            else:
                # The tabletop needs no time to get ready; a person does.
                wait = 0.0 if source.acts else countdown
                counts = _record_by_time(console, source, recorder, label * takes, seconds, wait)
        finally:
            source.close()
    except (OSError, RecordError, ValueError, VideoError) as error:
        print_error(console, error)
        raise typer.Exit(1) from error
    for name in label:
        print_text(console, f'{name}: {counts[name]} examples')
    if not counts:
        raise typer.Exit(1)


def _record_by_time(
    console: Console,
    camera: 'RecordCamera',
    recorder: 'ExampleRecorder',
    labels: list[str],
    seconds: float,
    countdown: float,
) -> Counter[str]:
    """Record one example of a fixed length for each label, by the frames' stamps.

    Args:
        console: Where to print.
        camera: Source of the frames.
        recorder: Writes the examples.
        labels: Labels in the order of recording; a label may occur several times.
        seconds: Length of an example.
        countdown: Seconds before each example.

    Returns:
        Number of examples by label.
    """
    from step_ros.streaming.grid import NANOSECONDS

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
                        print_text(console, f'{label} in {announced + 1}')
                    continue
                if -left >= seconds:
                    break
                if not recorder.recording:
                    recorder.begin(label)
                    print_text(console, f'{label}: now')
                recorder.write(image_hw3, stamp_ns)
                last_ns = stamp_ns
        except BaseException:
            # The example is incomplete.
            recorder.drop()
            raise
        # A video may end in the middle of an example; the tabletop ends with its action.
        complete = camera.acts or (
            begins_ns is not None and last_ns - begins_ns >= _LEAST * seconds * NANOSECONDS
        )
        if recorder.recording and not complete:
            recorder.drop()
        if not recorder.recording:
            print_text(console, f'{label}: the camera ended before {seconds:g} s were recorded')
            break
        _end_example(console, recorder, label, counts)
    return counts


def _record_by_keys(
    console: Console, camera: 'RecordCamera', recorder: 'ExampleRecorder', labels: list[str]
) -> Counter[str]:
    """Let keys mark start and end of each example; a video file plays at its own speed.

    Returns:
        Number of examples by label.
    """
    from step_ros.streaming.grid import NANOSECONDS

    counts: Counter[str] = Counter()
    digits = {str((place + 1) % 10): label for place, label in enumerate(labels)}
    for digit, name in digits.items():
        print_text(console, f'{digit}: {name}')
    chosen = labels[0]
    with Keys() as keys:
        print_text(console, HELP.format(labels=' '.join(digits)))
        print_text(console, f'label: {chosen}')
        frames = camera.frames(chosen)
        # From the frames' stamps to the monotonic clock.
        offset_ns: int | None = None
        try:
            while True:
                frame = next(frames, None)
                if frame is None:
                    # The tabletop acts again, without end; a file has ended.
                    frames = camera.frames(chosen)
                    frame = next(frames, None)
                if frame is None:
                    print_text(console, 'the video has ended')
                    break
                stamp_ns, image_hw3 = frame
                now_ns = time.monotonic_ns()
                offset_ns = now_ns - stamp_ns if offset_ns is None else offset_ns
                wait = 0.0 if camera.live else (stamp_ns + offset_ns - now_ns) / NANOSECONDS
                key = keys.pressed(wait)
                # A key ends the wait early; a file's frame must still not come too soon.
                if key and not camera.live:
                    left = stamp_ns + offset_ns - time.monotonic_ns()
                    time.sleep(max(0.0, left / NANOSECONDS))
                if key == END:
                    break
                if key == ' ' and recorder.recording:
                    _end_example(console, recorder, chosen, counts)
                elif key == ' ':
                    recorder.begin(chosen)
                    print_text(console, f'{chosen}: recording')
                elif key == 'd' and recorder.recording:
                    recorder.drop()
                    print_text(console, 'dropped')
                elif key in digits and not recorder.recording:
                    chosen = digits[key]
                    print_text(console, f'label: {chosen}')
                recorder.write(image_hw3, stamp_ns)
        except KeyboardInterrupt:
            print_text(console, 'interrupted')
        finally:
            if recorder.recording:
                _end_example(console, recorder, chosen, counts)
    return counts


def _end_example(
    console: Console, recorder: 'ExampleRecorder', label: str, counts: Counter[str]
) -> None:
    """End an example, count it and print its name; the recorder drops one that is too short."""
    name = recorder.end()
    if name:
        counts[label] += 1
    print_text(console, f'{label}: {name}' if name else f'{label}: too short, dropped')


class Keys:
    """Reads single keys from standard input, without waiting for the return key.

    Use it in a `with` statement: it restores the terminal's mode, whatever happens.
    """

    def __enter__(self) -> 'Keys':
        self._file = sys.stdin.fileno()
        self._before: list[Any] = termios.tcgetattr(self._file)
        # TCSADRAIN does not flush: keys pressed meanwhile count.
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
        """Return the next key; empty if none is pressed in time; `q` if the terminal is closed.

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

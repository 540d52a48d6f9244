"""Key presses in the terminal, without waiting for the return key."""

import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Any

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

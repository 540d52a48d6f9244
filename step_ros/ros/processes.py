"""Starting and ending this package's nodes as processes of their own."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

# A node ends by itself on SIGINT; the time it is given, in seconds.
PATIENCE = 8.0


class NodeProcess:
    """A node of this package in a process of its own.

    Args:
        name: Module in `step_ros.ros`, for example `camera_node`.
        log: File for what it prints.
        parameters: Its parameters.
        namespace: Its namespace.
    """

    def __init__(
        self, name: str, *, log: Path, parameters: Mapping[str, Any], namespace: str = '/'
    ) -> None:
        self.name, self.log = name, log
        arguments = ['--ros-args', '-r', f'__ns:={namespace}']
        for key, value in parameters.items():
            text = yaml.safe_dump(value, default_flow_style=True, width=float('inf'))
            arguments += ['-p', f'{key}:={text.removesuffix(chr(10)).removesuffix("...").strip()}']
        with log.open('w') as output:
            # A session of its own: Ctrl-C reaches the caller alone, who then ends all in order.
            self._process = subprocess.Popen(
                [sys.executable, '-m', f'step_ros.ros.{name}', *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def log_tail(self, lines: int = 12) -> str:
        """Return the last lines of what it printed."""
        return '\n'.join(self.log.read_text(errors='replace').splitlines()[-lines:])

    def stop(self) -> int:
        """End it with SIGINT, by force if it does not go; return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

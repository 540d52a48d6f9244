"""Starting and ending this package's nodes as processes of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from step_ros.ros.perception.parameters import NOT_CONFIGURED

# A node ends by itself on SIGINT; the time it is given, in seconds.
PATIENCE = 8.0
# The first start loads torch; a slow disk makes that long.
START_SECONDS = 120.0
_POLL_SECONDS = 0.05


class NodeError(RuntimeError):
    """A node did not start or did not keep going."""


class NodeProcess:
    """A node of this package in a process of its own.

    Args:
        name: Module in `step_ros.ros`, for example `camera_node`.
        log: File for what it prints.
        parameters: Its parameters.
        namespace: Its namespace.
        environment: Variables that it has beside those of this process.
    """

    def __init__(
        self,
        name: str,
        *,
        log: Path,
        parameters: Mapping[str, Any],
        namespace: str = '/',
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.log = name, log
        arguments = ['--ros-args', '-r', f'__ns:={namespace}']
        for key, value in parameters.items():
            text = yaml.safe_dump(value, default_flow_style=True, width=float('inf'))
            arguments += ['-p', f'{key}:={text.removesuffix(chr(10)).removesuffix("...").strip()}']
        with log.open('w') as output:
            # A session of its own: Ctrl-C reaches the caller alone, who then ends all in order.
            self._process = subprocess.Popen(
                [sys.executable, '-m', 'step_ros.ros.node_program', name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def log_tail(self, lines: int = 12) -> str:
        """Return the last lines of what it printed."""
        return '\n'.join(self.log.read_text(errors='replace').splitlines()[-lines:])

    def check(self) -> None:
        """See that it is well.

        Raises:
            NodeError: It ended, or could not be configured.
        """
        if self.exit_code is not None:
            raise NodeError(
                f'{self.name} ended with exit code {self.exit_code}; its log, {self.log}, ends '
                f'with:\n{self.log_tail()}'
            )
        if NOT_CONFIGURED in self.log_tail():
            raise NodeError(f'{self.name} did not start:\n{self.log_tail()}')

    def hold(self, seconds: float) -> None:
        """Let it stand still for some time, as a machine that is busy with other things does."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """End it with SIGINT, by force if it does not go; return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()


def check_all(nodes: Iterable[NodeProcess]) -> None:
    """See that all are well.

    Raises:
        NodeError: One is not.
    """
    for node in nodes:
        node.check()


def wait_until(
    done: Callable[[], bool],
    nodes: Iterable[NodeProcess],
    what: str,
    *,
    seconds: float = START_SECONDS,
) -> None:
    """Wait for something that nodes are to bring about.

    Args:
        done: Whether it is there.
        nodes: Who must be well meanwhile; the last one is to bring it about.
        what: What is waited for, for the reader of an error.
        seconds: How long.

    Raises:
        NodeError: A node is not well, or it did not come in time.
    """
    nodes = list(nodes)
    deadline = time.monotonic() + seconds
    while not done():
        check_all(nodes)
        if time.monotonic() > deadline:
            raise NodeError(
                f'{what} did not come within {seconds:.0f} s; the log of {nodes[-1].name}, '
                f'{nodes[-1].log}, ends with:\n{nodes[-1].log_tail()}'
            )
        time.sleep(_POLL_SECONDS)

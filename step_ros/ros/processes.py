# SPDX-License-Identifier: Apache-2.0
"""Start, watch and stop nodes of this package, each in its own process."""

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

# Seconds that a node has to end after SIGINT, before it is killed.
STOP_SECONDS = 8.0
# Seconds that a node has to start: the first start loads torch, perhaps from a slow disk.
START_SECONDS = 120.0
_POLL_SECONDS = 0.05


class NodeError(RuntimeError):
    """A node did not start, or ended too early."""


class NodeProcess:
    """A node of this package in its own process.

    Args:
        name: Name in `node_program.MODULES`, for example `camera_node`.
        log: File for its output.
        parameters: Its parameters, by name.
        namespace: Its namespace.
        environment: Environment variables in addition to those of this process.
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
            # In its own session: Ctrl-C reaches only the caller, which stops the nodes in order.
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
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def log_tail(self, lines: int = 12) -> str:
        """Return the last lines of its output."""
        return '\n'.join(self.log.read_text(errors='replace').splitlines()[-lines:])

    def check(self) -> None:
        """Check that the node runs and could be configured.

        Raises:
            NodeError: The node ended, or could not be configured.
        """
        if self.exit_code is not None:
            raise NodeError(
                f'{self.name} ended with exit code {self.exit_code}; the last lines of its log '
                f'{self.log}:\n{self.log_tail()}'
            )
        if NOT_CONFIGURED in self.log_tail():
            raise NodeError(f'{self.name} did not start:\n{self.log_tail()}')

    def hold(self, seconds: float) -> None:
        """Suspend the process for some seconds, as on a machine that is busy with other work."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """Stop the node with SIGINT, and SIGKILL if it does not end; return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()


def check_all(nodes: Iterable[NodeProcess]) -> None:
    """Check that all nodes run and could be configured.

    Raises:
        NodeError: A node ended, or could not be configured.
    """
    for node in nodes:
        node.check()


def wait_until(
    done: Callable[[], bool],
    nodes: Iterable[NodeProcess],
    description: str,
    *,
    seconds: float = START_SECONDS,
) -> None:
    """Wait until a condition holds, and check the nodes meanwhile.

    Args:
        done: The condition.
        nodes: The nodes that must keep running; the last one is expected to fulfil the condition.
        description: Description of the condition, for the error message.
        seconds: Longest time to wait.

    Raises:
        NodeError: A node ended, could not be configured, or the time is over.
    """
    nodes = list(nodes)
    deadline = time.monotonic() + seconds
    while not done():
        check_all(nodes)
        if time.monotonic() > deadline:
            raise NodeError(
                f'{nodes[-1].name}: waited {seconds:.0f} s for {description}; the end of its '
                f'log {nodes[-1].log}:\n{nodes[-1].log_tail()}'
            )
        time.sleep(_POLL_SECONDS)

# SPDX-License-Identifier: Apache-2.0
"""Run a node as a program: `python -m step_ros.ros.node_program perception_node --ros-args ...`.

Importing torch takes seconds. The signal handlers are installed before that, so that Ctrl-C during
the import ends the program without a traceback.
"""

import importlib
import os
import signal
import sys
from typing import NoReturn

from step_ros.reporting.installation import how_to_install

# Program name -> module in `step_ros.ros`.
MODULES = {
    'perception_node': 'perception.node',
    'camera_node': 'camera.node',
    'bag_player': 'replay.player',
    'replay_recorder': 'replay.recorder',
    'benchmark_publisher': 'benchmarks.publisher',
}


def main(name: str) -> NoReturn:
    """Run a node of this package. SIGINT or SIGTERM during its import ends the program at once.

    Args:
        name: Name of the program in `MODULES`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    try:
        node = importlib.import_module(f'step_ros.ros.{MODULES[name]}')
    except ModuleNotFoundError as error:
        if error.name is None:
            raise
        advice = how_to_install(error.name)
        sys.exit(f'{name}: the module {error.name} is not installed; {advice}')
    from step_ros.ros.runner import leave

    leave(node.main())


if __name__ == '__main__':
    main(sys.argv.pop(1))

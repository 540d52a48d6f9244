"""A node as a program: `python -m step_ros.ros.node_program perception_node --ros-args ...`.

Loading torch takes seconds, in which Python would end by a traceback on Ctrl-C. So signals are
heeded before anything else is imported.
"""

import importlib
import os
import signal
import sys
from typing import NoReturn

# Module of each program in `step_ros.ros`.
MODULES = {
    'perception_node': 'perception.node',
    'camera_node': 'camera.node',
    'bag_player': 'replay.player',
    'replay_recorder': 'replay.recorder',
    'benchmark_publisher': 'benchmarks.publisher',
}


def main(name: str) -> NoReturn:
    """Run a node of this package; a signal while it is loaded ends it at once.

    Args:
        name: Its name in `MODULES`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    node = importlib.import_module(f'step_ros.ros.{MODULES[name]}')
    from step_ros.ros.runner import leave

    leave(node.main())


if __name__ == '__main__':
    main(sys.argv.pop(1))

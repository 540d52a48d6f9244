# SPDX-License-Identifier: Apache-2.0
"""Launch test (`launch_test`): two robots on one machine, each with its own camera topic."""

import time
import unittest
from pathlib import Path

import launch_testing
import rclpy
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

PERCEPTION = Path(__file__).resolve().parents[2] / 'launch' / 'perception.launch.py'
ROBOTS = {'one': 'true', 'two': 'false'}
TIMEOUT = 120


def generate_test_description():
    """Launch a node for each robot: the launch file manages one, the other manages itself."""
    nodes = [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(PERCEPTION)),
            launch_arguments={
                'namespace': robot,
                'image_topics': 'camera/image_raw',
                'device': 'cpu',
                'runtime': 'torch',
                'lifecycle_manager': managed,
            }.items(),
        )
        for robot, managed in ROBOTS.items()
    ]
    return LaunchDescription([*nodes, launch_testing.actions.ReadyToTest()])


class TestRobots(unittest.TestCase):
    """Checks while both robots run."""

    def test_each_robot_has_its_own_camera(self, proc_output):
        """Each node is active on the camera in its namespace, and publishes there."""
        for robot in ROBOTS:
            proc_output.assertWaitFor(
                f'active: camera on /{robot}/camera/image_raw', timeout=TIMEOUT
            )
        rclpy.init()
        node = rclpy.create_node('visitor')
        try:
            end = time.monotonic() + TIMEOUT
            for robot in ROBOTS:
                for count, topic in (
                    (node.count_publishers, f'/{robot}/perception/hypotheses'),
                    (node.count_subscribers, f'/{robot}/camera/image_raw'),
                ):
                    while count(topic) != 1:
                        assert time.monotonic() < end, topic
                        time.sleep(0.1)
        finally:
            node.destroy_node()
            rclpy.shutdown()


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """Checks after shutdown."""

    def test_all_nodes_ended_cleanly(self, proc_info):
        """No node ends with an error."""
        launch_testing.asserts.assertExitCodes(proc_info)

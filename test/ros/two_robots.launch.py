"""Two robots on one machine: launched, asked what they are, ended. `launch_test` runs it."""

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
PATIENCE = 120


def generate_test_description():
    """Launch a node for each robot; one is managed by the launch, the other manages itself."""
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
    """While both run."""

    def test_each_sees_its_own_camera(self, proc_output):
        """Each is active on the camera in its own namespace, and answers there."""
        for robot in ROBOTS:
            proc_output.assertWaitFor(
                f'active: camera on /{robot}/camera/image_raw', timeout=PATIENCE
            )
        rclpy.init()
        node = rclpy.create_node('visitor')
        try:
            end = time.monotonic() + PATIENCE
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
    """When they were interrupted."""

    def test_all_ended_well(self, proc_info):
        """No node ends by an error."""
        launch_testing.asserts.assertExitCodes(proc_info)

# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 side of the package: nodes, clients, and all code that imports rclpy."""

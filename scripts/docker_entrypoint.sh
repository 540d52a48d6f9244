#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run a command with ROS 2 and this workspace sourced.
set -e
source "/opt/ros/${ROS_DISTRO}/setup.bash"
source /workspace/install/setup.bash
exec "$@"

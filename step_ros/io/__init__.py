# SPDX-License-Identifier: Apache-2.0
"""Video and rosbag2 files."""

# SPDX-License-Identifier: Apache-2.0
"""New tasks from a handful of examples: `step_ros teach`."""

# SPDX-License-Identifier: Apache-2.0
"""`python -m step_ros.cli`: the form of the command that torchrun can start."""

from step_ros.cli import main

main()

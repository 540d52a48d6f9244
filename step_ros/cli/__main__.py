"""`python -m step_ros.cli`, which torchrun wants."""

from step_ros.cli import main

main()

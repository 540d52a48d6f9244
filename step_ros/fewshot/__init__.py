"""New tasks from a handful of examples: `step_ros teach`."""

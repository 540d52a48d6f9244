"""Pure torch: backbone, STEP head, multi-task model and bundle format."""

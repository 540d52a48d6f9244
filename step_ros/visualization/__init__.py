"""Drawing on arrays: overlays, panels, timelines, attention maps."""

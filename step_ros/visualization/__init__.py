# SPDX-License-Identifier: Apache-2.0
"""Drawing on arrays: overlays, panels, timelines, attention maps."""

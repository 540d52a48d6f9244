# SPDX-License-Identifier: Apache-2.0
"""Reports: Markdown, HTML, pictures, progress bars, facts about the machine."""

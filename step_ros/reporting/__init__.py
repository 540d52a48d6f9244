"""Reports: Markdown, HTML, progress, facts about the machine."""

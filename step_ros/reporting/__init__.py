"""Reports: Markdown, HTML, pictures, progress bars, facts about the machine."""

"""A report for people: page, terminal, Markdown, CSV."""

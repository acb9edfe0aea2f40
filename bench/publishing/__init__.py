"""Reports as files for others: pages, Markdown, CSV, and reports of several machines in one."""

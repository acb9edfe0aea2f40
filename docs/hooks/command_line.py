"""The page of the command line, made when the site is built: the help of every command as it is printed."""

from collections.abc import Iterator
from typing import Any

import click

from drc_deploy.cli.main import cli

WIDTH = 80


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Append the help of all commands to the page ``command_line.md``."""
    if page.file.src_uri != "command_line.md":
        return markdown
    return "\n".join([markdown, *_help_of("drc-deploy", cli, None, depth=1)])


def _help_of(name: str, command: click.Command, parent: click.Context | None, *, depth: int) -> Iterator[str]:
    context = command.make_context(name, [], parent, resilient_parsing=True, terminal_width=WIDTH)
    yield f"{'#' * (depth + 1)} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found:
                yield from _help_of(below, found, context, depth=min(depth + 1, 2))

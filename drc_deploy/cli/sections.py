"""Help in sections, for a command of many options."""

from collections.abc import Mapping, Sequence
from typing import Any

import click


class SectionedCommand(click.Command):
    """A command whose help lists its options under headings."""

    def __init__(self, *arguments: Any, sections: Mapping[str, Sequence[str]], **options: Any) -> None:
        """Take the names of the parameters that each heading stands above; the others come first."""
        super().__init__(*arguments, **options)
        self._sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, a list under each heading."""
        headed = {name: heading for heading, names in self._sections.items() for name in names}
        lists: dict[str, list[tuple[str, str]]] = {heading: [] for heading in ("Options", *self._sections)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                lists[headed.get(parameter.name or "", "Options")].append(record)
        for heading, records in lists.items():
            with formatter.section(heading):
                formatter.write_dl(records)

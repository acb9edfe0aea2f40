"""``--config``: the options of a training command from a TOML file, and back into one.

A file holds long option names, with dashes or underscores, at its top level (``learning-rate = 1e-4``). A value means
what it would mean on the command line; an option that may be repeated takes a list, a flag ``true`` or ``false``.
Relative paths start at the file's folder, so that a file and what it names can be moved together.
"""

import difflib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from drc_deploy import __version__
from drc_deploy.errors import InputError, UsageError
from drc_deploy.input_files import MISSING, read_text, why_not

RECIPES = Path(__file__).parent.parent / "recipes"
"""Config files that ship with the package."""
COMMAND_LINE_ONLY = frozenset({"config", "force", "json", "restart"})
"""Options that say how a command runs now, not what it makes. No file sets them or is written with them."""

ALTERNATIVES = {"steps": "minutes", "minutes": "steps"}
"""Options that say the same in two ways: what is typed replaces the other one of a file."""


def recipe_names() -> list[str]:
    """Return the names of the recipes that ship with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


class _ConfigOption(click.Option):
    """Fills the defaults of the other options, except of those that were typed: they need not be right in the file."""

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        value, args = super().handle_parse_result(ctx, opts, args)
        if isinstance(value, str) and not ctx.resilient_parsing:
            ctx.default_map = {**(ctx.default_map or {}), **_defaults_from(_find(value), ctx, typed=opts)}
        return value, args


config_option = click.option(
    "--config",
    cls=_ConfigOption,
    is_eager=True,
    expose_value=False,
    metavar="NAME|FILE",
    help=f"Take options from a TOML file or a recipe ({', '.join(recipe_names())}). Typed options win.",
)


def resolved_config(ctx: click.Context) -> dict[str, Any]:
    """Return the final value of every option under its long name, ready for TOML.

    Paths are absolute; repeated options are lists; options without a value, those of ``COMMAND_LINE_ONLY`` and
    arguments are left out.
    """
    values = {name: (option, ctx.params.get(str(option.name))) for name, option in _options(ctx.command).items()}
    return {name: _plain(option, value) for name, (option, value) in values.items() if value is not None}


def config_text(ctx: click.Context) -> str:
    """Return the final value of every option as TOML, so that ``--config`` with a file of it repeats the run.

    Raises:
        UsageError: an option holds a file name that is not UTF-8, which no TOML can hold.
    """
    lines = [
        f"# Options of `drc-deploy {ctx.info_name}`, version {__version__}; --config with this file sets them all."
    ]
    for name, value in resolved_config(ctx).items():
        line = f"{name} = {_to_toml(value)}"
        if line != line.encode(errors="replace").decode():
            raise UsageError(f"--{name} holds a file name that is not UTF-8.", "Rename that file or folder.")
        lines.append(line)
    return "\n".join(lines) + "\n"


def _options(command: click.Command) -> dict[str, click.Option]:
    """Return the options that a file may set, by their long names."""
    options = {}
    for parameter in command.params:
        long = [name[2:] for name in parameter.opts if name.startswith("--")]
        if isinstance(parameter, click.Option) and long and long[0] not in COMMAND_LINE_ONLY:
            options[long[0]] = parameter
    return options


def _plain(option: click.Option, value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(option, item) for item in value]
    return os.path.abspath(value) if _is_path(value, option) else value


def _is_path(value: Any, option: click.Option) -> bool:
    """Return whether a value is a path, and no name that the option knows."""
    return isinstance(option.type, click.Path) and value not in getattr(option.type, "names", ())


def _to_toml(value: bool | float | str | list[Any]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_to_toml, value))}]"
    if isinstance(value, str):
        # JSON's escapes are among TOML's, which wants one more.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()


def _find(reference: str) -> Path:
    path = Path(os.path.expanduser(reference))
    if os.path.isfile(path):
        return path
    if reference in recipe_names():
        return RECIPES / f"{reference}.toml"
    hint = f"Give a TOML file or one of the recipes: {', '.join(recipe_names())}."
    if (why := why_not(path)) != MISSING:
        raise InputError(f"--config {reference} {why}.", hint)
    raise InputError(f"there is no config file {reference!r} and no recipe of that name.", hint)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path, "utf-8-sig")  # some editors begin with a mark
        content: dict[str, Any] = msgspec.toml.decode(text, type=dict[str, Any])
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.", "Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        hint = 'Write one option a line, with text in quotes: model = "drn_s".'
        raise InputError(f"{path} is not valid TOML: {error}.", hint) from error
    return content


def _defaults_from(path: Path, ctx: click.Context, *, typed: Mapping[str, Any]) -> dict[str, Any]:
    """Read a file and check it against the options of the command; return parameter name -> value.

    Raises:
        InputError: the file cannot be read.
        UsageError: a key that is no option, or that is there twice.
        click.BadParameter: a value that its option refuses, unless that option or its alternative is among those
            ``typed``.
    """
    options = _options(ctx.command)
    content = _read(path)
    names = [key.replace("_", "-") for key in content]
    _check_names(names, options, path)
    defaults = {}
    for (key, value), name in zip(content.items(), names, strict=True):
        option = options[name]
        if option.name in typed or ALTERNATIVES.get(name) in typed:
            continue
        try:
            defaults[str(option.name)] = _check_value(value, option, ctx, Path(os.path.abspath(path)).parent)
        except click.BadParameter as error:
            raise click.BadParameter(error.message, ctx, param_hint=f"{key!r} in {path}") from error
    return defaults


def _check_names(names: list[str], options: Iterable[str], path: Path) -> None:
    if elsewhere := sorted(COMMAND_LINE_ONLY.intersection(names)):
        raise UsageError(f"{path} sets {elsewhere[0]!r}, which no file may.", f"Type --{elsewhere[0]} yourself.")
    if unknown := [name for name in names if name not in options]:
        named = ", ".join(f"{name!r}{_close(name, options)}" for name in unknown)
        raise UsageError(f"{path} sets options that this command does not have: {named}.", "See its --help.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{path} sets {twice[0]!r} twice.", "Keep one of them.")


def _close(name: str, options: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, options, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _check_value(value: Any, option: click.Option, ctx: click.Context, folder: Path) -> Any:
    """Return a value as click takes it from the command line, after click has found it right."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise click.BadParameter("write true or false, without quotes.")
        return value
    repeated = option.multiple or option.nargs != 1
    if repeated != isinstance(value, list):
        raise click.BadParameter('write a list: ["one", "two"].' if repeated else "write one value.")
    typed = [_typed(item, option, folder) for item in (value if repeated else [value])]
    result = typed if repeated else typed[0]
    option.process_value(ctx, result)
    return result


def _typed(value: Any, option: click.Option, folder: Path) -> str:
    """Return a scalar as it is typed; left as a number, click would cut 2.5 steps down to 2."""
    if not isinstance(value, bool | int | float | str) or "\0" in str(value):
        raise click.BadParameter("write text, a number, true or false.")
    text = value if isinstance(value, str) else str(value).lower()
    return str(folder / os.path.expanduser(text)) if _is_path(text, option) else text

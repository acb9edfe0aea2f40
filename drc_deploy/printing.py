"""What others wrote, such as names and metadata of files, made safe to show; and what prints it."""

import logging
from copy import copy
from unicodedata import category

import click

from drc_deploy.files import cannot_write

_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that a terminal obeys, that hide or turn round others, or that end a line."""
_JOINERS = "\u200c\u200d"
"""Formats that only join letters, in Persian and in emoji."""


def one_line(text: str) -> str:
    """Return a text with escapes in place of characters that would be obeyed instead of shown, also of line breaks."""
    if text.isprintable():  # nearly always, and much faster
        return text
    return "".join(_escape(c) if category(c) in _OBEYED and c not in _JOINERS else c for c in text)


def printable(text: str) -> str:
    """Return the lines of a text, each as ``one_line`` returns it."""
    if text.replace("\n", "").isprintable():  # nearly always; a text may have a million lines
        return text
    return "\n".join(map(one_line, text.split("\n")))


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text, on standard error with ``err``; whatever is in it, a terminal does nothing but show it.

    Where standard error takes nothing, as on a full disk, the text is lost: no work fails for that.

    Raises:
        BrokenPipeError: the reader of standard output has gone.
        OutputError: nothing can be written there, as where the disk behind it is full.
    """
    try:
        click.echo(printable(text), err=err, nl=nl)
    except OSError as error:
        if err:
            return
        if isinstance(error, BrokenPipeError):
            raise
        raise cannot_write("to standard output", error) from error


def print_notes_safely() -> None:
    """Have notes of the log printed as ``say`` prints, where the program that runs has not set up its log."""
    if logging.lastResort:
        logging.lastResort.setFormatter(_Printable())


class _Printable(logging.Formatter):
    """Our notes are a sentence each, in which a name may have line breaks; those of libraries may have lines."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name.startswith("drc_deploy."):
            record = copy(record)
            record.msg, record.args = one_line(record.getMessage()), ()
        return printable(super().format(record))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()

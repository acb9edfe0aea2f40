"""The ``drc-deploy`` group: finds commands lazily and turns errors into a sentence and an exit code."""

import difflib
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import click

from drc_deploy import __version__
from drc_deploy.errors import DrcDeployError, Terminated
from drc_deploy.files import hint_for
from drc_deploy.printing import print_notes_safely, say
from drc_deploy.runtime.backends.pytorch.waiting_threads import let_waiting_threads_sleep

COMMANDS = {
    "compress": "Search, prune and fine-tune: a smaller network of nearly the same quality.",
    "export": "Write a checkpoint as ONNX and, with --trt, as a TensorRT plan.",
    "verify": "Compare the output of an engine with its checkpoint.",
    "upscale": "Upscale images and videos with an engine.",
    "serve": "Upscale images over HTTP, for many callers.",
    "bench": "Measure latency, memory and quality, or compare two reports.",
    "report": "Write the page of a report again, or merge reports of several machines.",
    "eval": "Measure PSNR and SSIM on pairs of HR and LR images.",
    "data": "Prepare photographs for training.",
    "train": "Train a network with dual regression.",
    "plot": "Draw the curves of training runs.",
    "search": "Search how many channels each layer needs.",
    "prune": "Prune channels down to given widths.",
    "finetune": "Fine-tune a pruned checkpoint.",
    "latency": "Time a model's layers at several widths, for `search --target latency`.",
    "ablate": "Compare pruning methods, or ways to train, as the tables of the paper do.",
    "import": "Make a checkpoint of any network's weights.",
    "models": "List the models, and the networks that ship with weights.",
    "info": "Show what a file is and where it comes from.",
    "throughput": "Measure how fast this machine trains, and where it waits.",
    "doctor": "Show which engines this machine can run, and what to install for others.",
}
"""Command name -> the line in the group's help; the module is ``drc_deploy.cli.commands.<name>_command``."""


EXTRAS = {
    "anyio": "serve",
    "torch": "train",
    "matplotlib": "train",
    "ml_dtypes": "export",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "ort",
    "av": "video",
    "fastapi": "serve",
    "fastapi_offline": "serve",
    "fsspec": "remote",
    "prometheus_client": "serve",
    "pydantic": "serve",
    "ray": "ray",
    "starlette": "serve",
    "uvicorn": "serve",
}
"""Package -> the extra of drc-deploy that brings it."""
_NO_THREAD, _NO_CPU = "can't start new thread", "CPU does not support FBGEMM"
_LACKS = (_NO_THREAD, _NO_CPU, "can't allocate memory", "bad_alloc")


class LazyGroup(click.Group):
    """Imports a command's module only when that command is used, so that ``--help`` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a user needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"drc_deploy.cli.commands.{cmd_name}_command").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; the error for an unknown name suggests one that is spelt alike."""
        alike = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and alike:
            raise click.UsageError(f"No such command '{args[0]}'. Did you mean '{alike[0]}'?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


# "\b" keeps click from filling the lines that follow.
HELP = """Train, prune, export, run and measure super-resolution networks.

\b
drc-deploy upscale photo.jpg             upscale a photograph
drc-deploy compress --model drn_xs       search, prune and fine-tune
drc-deploy export --trt fp16             write ONNX and a TensorRT plan
drc-deploy bench                         measure latency, memory and PSNR
"""


@click.group(cls=LazyGroup, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show a traceback with every error.")
@click.version_option(__version__, prog_name="drc-deploy")
def cli(debug: bool) -> None:
    """Hold the options of the program itself."""
    del debug  # read from the context by `main`


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated."""
    signals = _raise_on_signals()
    _fill_closed_streams()
    _print_any_name()
    print_notes_safely()
    let_waiting_threads_sleep()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _check_working_folder()
        cli.main(args=arguments, prog_name="drc-deploy", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort) as error:
        # click wraps what stops a command in its own Abort.
        # Libraries in C, such as Ray, raise a KeyboardInterrupt of their own for either signal.
        terminated = isinstance(error.__cause__ or error, Terminated) or signal.SIGTERM in signals
        _leave(signal.SIGTERM if terminated else signal.SIGINT, arguments)
    except Exception as error:  # a user never sees a bare traceback
        if signals:  # an import or a library may have turned the signal into an error of its own
            _leave(signals[-1], arguments)
        sys.exit(_exit_code_of(error, debug="--debug" in arguments))
    finally:
        _forget_what_cannot_be_said()
    sys.exit(0)


def _forget_what_cannot_be_said() -> None:
    """Empty standard error: Python ends with a code of its own, 120, where something is left there."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):  # a full disk, a reader that has gone; or closed
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _fill_closed_streams() -> None:
    """Put the null device where a standard stream is closed, or libraries would print into the next file opened."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")


def _print_any_name() -> None:
    """Print escapes for characters of file names that standard output cannot encode, as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _check_working_folder() -> None:
    """Refuse to begin in a folder that is gone: libraries of torch end the process there.

    Raises:
        DrcDeployError: it is gone.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise DrcDeployError("the working folder does not exist any more.", "Change to one that does: cd") from error


def _raise_on_signals() -> list[signal.Signals]:
    """Turn SIGINT and SIGTERM into exceptions, so that temporary files are removed and unfinished work is kept.

    Returns:
        The signals that came so far, the last one last.
    """
    came: list[signal.Signals] = []

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        came.append(signal.Signals(number))
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # `nohup` and `&` have it ignored
        signal.signal(signal.SIGINT, stop)
    return came


def _leave(number: signal.Signals, arguments: Sequence[str]) -> NoReturn:
    """Exit with the code of a command that a signal stopped."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C while Python leaves would print a traceback
        signal.signal(ignored, signal.SIG_IGN)
    say(f"Stopped. {_how_to_continue(arguments)}", err=True)
    sys.exit(128 + number)


def _how_to_continue(arguments: Sequence[str]) -> str:
    if "--restart" in arguments:
        return "Run the same command again to continue, without --restart."
    if "upscale" in arguments and "--skip-existing" not in arguments:
        instead = " instead of --overwrite" if "--overwrite" in arguments else ""
        return f"Run the same command again to continue, with --skip-existing{instead}."
    return "Run the same command again to continue."


def _exit_code_of(error: Exception, *, debug: bool) -> int:
    """Print the error and return the exit code."""
    if isinstance(error, click.NoSuchOption):
        # click counts the dashes, and so finds too many that are close.
        names = [name[2:] for name in error.possibilities or ()]
        close = [f"--{name}" for name in difflib.get_close_matches(error.option_name.lstrip("-"), names)]
        error = click.NoSuchOption(error.option_name, possibilities=close, ctx=error.ctx)
    if isinstance(error, click.ClickException):
        with suppress(OSError):  # as `say` does
            error.show()
        return error.exit_code
    if isinstance(error, BrokenPipeError):  # the reader of a pipe, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if debug:
        say("".join(traceback.format_exception(error)), err=True, nl=False)
    message, hint = _message_of(error)
    say(f"Error: {message}", err=True)
    if hint:
        say(f"       {hint}", err=True)
    return error.exit_code if isinstance(error, DrcDeployError) else 1


def _message_of(error: Exception) -> tuple[str, str]:
    """Return one sentence of what is wrong, and one of what to do about it."""
    if isinstance(error, DrcDeployError):
        return error.message, error.hint
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:  # commands import heavy packages when needed
        hint = f"Install it: pip install 'drc-deploy[{EXTRAS[error.name]}]'."
        return f"this command needs {error.name}, which is not installed.", hint
    if _is_of_the_machine(error):
        return f"this machine failed: {_reason(error)}.", _machine_hint(error)
    hint = "This is a fault of drc-deploy: run it with --debug and report what it prints."
    return f"{type(error).__name__}: {error}", hint


def _is_of_the_machine(error: Exception) -> bool:
    """Return whether it lacks something, such as room behind standard output, or memory to load a library."""
    if isinstance(error, ImportError):
        return not isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("drc_deploy")
    # Python and torch have no class of their own for these.
    lacks = isinstance(error, RuntimeError) and any(words in str(error) for words in _LACKS)
    return lacks or isinstance(error, MemoryError | OSError)


def _reason(error: Exception) -> str:
    """Return what the system says, with the file that it speaks of and without its number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename!s}" if error.filename is not None else "")
    return str(error) or "no memory left"


def _machine_hint(error: Exception) -> str:
    if isinstance(error, OSError) and (hint := hint_for(error)):
        return hint
    if _NO_CPU in str(error):
        return "torch finds in /proc what a CPU can do: mount it (`mount -t proc proc /proc`)."
    try:
        import resource
    except (ImportError, MemoryError):  # not a part of Python on Windows, or no memory is left for it
        return "Check its disks and its memory."
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        if _NO_THREAD in str(error):
            return "Close other programs, or raise the limit of processes (`ulimit -u`)."
        return "Check its disks and its memory."
    return f"The memory of a process is limited to {limit >> 20} MiB here: raise it (`ulimit -v`), or check the disks."

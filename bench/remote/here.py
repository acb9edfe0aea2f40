"""``bench --remote``: the same benchmark on another machine, through ssh; the page is made here.

The other machine has the same drc-deploy. Engines and images are copied to it, ``drc-deploy bench`` runs there, and the
report and its crops are copied back. ``there.py`` is its part.
"""

import dataclasses
import datetime
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drc_deploy import __version__, records
from drc_deploy.bench.remote.connection import SSH_FAILED, Connection, connect
from drc_deploy.bench.remote.inputs import Inputs
from drc_deploy.bench.remote.target import Target
from drc_deploy.bench.remote.there import RESULTS, Folder, Program, code_digest
from drc_deploy.bench.report.checks import check_report
from drc_deploy.bench.report.records import RemoteOrigin, Report
from drc_deploy.bench.report.report_files import REPORT_FILE
from drc_deploy.bench.run.inputs import BenchOptions, find_engine_files
from drc_deploy.errors import ArtefactError, DrcDeployError, MissingDependencyError
from drc_deploy.files import check_writable, write_bytes

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_SHOWN = 40
"""Characters of a version that another machine sends."""


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """Where to measure, and how to work there."""

    target: Target
    python: str
    """The Python there that has drc-deploy: a program on its PATH, or a path."""
    folder: str | None
    """Folder there that keeps copied and built files; None for a temporary one."""
    export: tuple[str, ...]
    """Options of ``drc-deploy export`` that make plans of ONNX files there; empty to measure them as they are."""

    @property
    def words(self) -> list[str]:
        """Return the options of the command line."""
        words = ["--remote", self.target.text, "--remote-python", self.python]
        words += ["--remote-dir", self.folder] if self.folder else []
        words += ["--remote-export", shlex.join(self.export)] if self.export else []
        return words

    @property
    def program(self) -> str:
        """Return the path of Python for the shell there, where a program starts in the home folder."""
        return shlex.quote(self.python.removeprefix("~/"))


def run_remote_bench(options: BenchOptions, remote: RemoteOptions) -> Report:
    """Measure on the other machine and return its report; the crops are written into ``options.out``.

    Raises:
        DrcDeployError: nothing to measure was found, the other machine cannot be reached or cannot measure, or
            ``options.out`` is not writable.
    """
    inputs, commands = _plan(options, remote)
    check_writable(options.out)
    folder = [shlex.quote(remote.folder)] if remote.folder else []
    there = " ".join(["exec", remote.program, "-m", "drc_deploy.bench.remote.there", *folder])
    with connect(remote.target, there) as connection:
        origin = RemoteOrigin(remote.target.text, _check_program(connection, remote))
        files, code = _measure(connection, inputs, commands, remote.target.text)
    report = _read(files, inputs)
    if code and report.engines:  # it was stopped there, or failed: a report of what was measured is not what was asked
        raise _failed(remote.target.text, ["bench"], code)
    for name in files.keys() - {REPORT_FILE}:
        (options.out / name).parent.mkdir(exist_ok=True)
        write_bytes(options.out / name, files[name])
    return dataclasses.replace(
        report,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        settings=dataclasses.replace(report.settings, command=f"{options.command} {shlex.join(remote.words)}"),
        warnings=(*report.warnings, *origin.warnings()),
        remote=origin,
    )


def _plan(options: BenchOptions, remote: RemoteOptions) -> tuple[Inputs, list[list[str]]]:
    """Return the files to copy and the commands to run there."""
    inputs = Inputs()
    engines, commands = [], []
    for file in find_engine_files(options.engines, options.workdir):
        path = inputs.add_engine(file.path)
        if remote.export and path.endswith(".onnx"):
            commands.append(["export", path, *remote.export])
            path = path.removesuffix(".onnx") + ".plan"
            inputs.names[path] = f"{file.path.with_suffix('.plan')} (made there)"
        engines.append(path)
    data = Path(inputs.add_images(options.data, options.lr_folder)) if options.data is not None else None
    there = dataclasses.replace(options, engines=tuple(engines), workdir=Path("engines"), out=Path(RESULTS), data=data)
    return inputs, [*commands, shlex.split(there.command)[1:]]


def _check_program(connection: Connection, remote: RemoteOptions) -> float:
    """Check that the same program is there, and return how many seconds its clock is ahead."""
    if not connection.greeted():
        raise _no_program(connection.close(), remote)
    program = connection.receive(Program)
    offset_s = program.time_s - time.time()
    if program.version != __version__:
        raise _install(
            f"{remote.target.text} has drc-deploy {program.version[:_SHOWN]}, and this is {__version__}", remote
        )
    if program.code != code_digest():
        raise _install(f"{remote.target.text} has another drc-deploy {__version__} than this one", remote)
    return offset_s


def _no_program(code: int, remote: RemoteOptions) -> DrcDeployError:
    """Return why nothing began; the message of ssh, the shell or Python is on standard error already."""
    if code == SSH_FAILED:
        return DrcDeployError(
            f"ssh cannot log in to {remote.target.text}.",
            f"Try it: `{remote.target.shell_command('true')}`. The reason is above.",
        )
    if code in (_NOT_FOUND, _NOT_EXECUTABLE):
        return MissingDependencyError(
            f"{remote.target.text} has no program {remote.python}.",
            "Give the Python that drc-deploy is installed for there, such as `--remote-python venv/bin/python`, a "
            "path from the home folder.",
        )
    return _install(f"{remote.python} on {remote.target.text} cannot run drc-deploy (exit code {code})", remote)


def _install(problem: str, remote: RemoteOptions) -> MissingDependencyError:
    wheel = f"drc_deploy-{__version__}-py3-none-any.whl"
    install = f"{remote.program} -m pip install --force-reinstall --no-deps ./{wheel}"
    return MissingDependencyError(
        f"{problem}.",
        f"Install this one: `pip wheel --no-deps -w dist .` in its folder, "
        f"`{remote.target.copy_command(f'dist/{wheel}')}`, `{remote.target.shell_command(install)}` (without --no-deps "
        "the first time); or name another Python with --remote-python.",
    )


def _measure(
    connection: Connection, inputs: Inputs, commands: list[list[str]], host: str
) -> tuple[dict[str, bytes], int]:
    """Copy the missing files, run the commands, and return the files of the report and the last exit code."""
    folder = connection.receive(Folder)
    missing = {name: path for name, path in inputs.files.items() if folder.digests.get(name) != inputs.digests[name]}
    if missing:
        connection.copy(missing, inputs.digests, folder.path)
    for words in commands[:-1]:
        if code := connection.run(words):
            raise _failed(host, ["export", Path(words[1]).name, *words[2:]], code)
    code = connection.run(commands[-1])
    files = connection.fetch(folder.path)
    if REPORT_FILE not in files:
        raise _failed(host, ["bench"], code)
    return files, code


def _failed(host: str, words: list[str], code: int) -> DrcDeployError:
    return DrcDeployError(
        f"{host}: `drc-deploy {' '.join(words)}` ended with exit code {code}.", "The reason is above."
    )


def _read(files: Mapping[str, bytes], inputs: Inputs) -> Report:
    """Read a report, with the names of the files here."""
    values = records.parse_json_object(files[REPORT_FILE], REPORT_FILE)
    report = records.from_dict(Report, inputs.as_here(values), REPORT_FILE)
    check_report(report, REPORT_FILE)
    strange = {file for strip in report.crops for file in strip.files} - files.keys()
    if strange:  # the page would hold files of this machine
        raise ArtefactError(f"the report shows files that did not come: {min(strange)}.", "Type the command again.")
    return report

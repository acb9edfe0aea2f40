"""``bench --remote``: the same benchmark on another machine, through ssh; the page is made here.

The machine that measures has the same drc-deploy. It is sent the engines and images that it has not, runs
``drc-deploy bench`` and sends back the report and its crops. ``remote_side.py`` is its part.
"""

import dataclasses
import datetime
import hashlib
import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from drc_deploy import records
from drc_deploy.bench.remote.cargo import Cargo, pack_engine, pack_images
from drc_deploy.bench.remote.link import Link, connect
from drc_deploy.bench.remote.target import Target
from drc_deploy.bench.remote.wire import CarriedFile, Coming, Done, Job, LostError, Missing, Outcome, Wire
from drc_deploy.bench.remote.workplace import RESULTS
from drc_deploy.bench.report.checks import check_report
from drc_deploy.bench.report.records import CROPS_FOLDER, RemoteOrigin, Report
from drc_deploy.bench.report.report_files import REPORT_FILE
from drc_deploy.bench.run.benchmark import BenchOptions
from drc_deploy.bench.run.inputs import find_engine_files
from drc_deploy.errors import ArtefactError, DrcDeployError
from drc_deploy.files import check_writable
from drc_deploy.progress import progress

PIECE_BYTES = 1 << 20
MOST_RESULT_BYTES = 1 << 30
"""No report with its crops comes near this: what sends more is no drc-deploy."""
_RESULT_NAME = re.compile(rf"{re.escape(REPORT_FILE)}|{CROPS_FOLDER}/[\w-][\w.-]*\.png")


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """Where to measure, and how to work there."""

    target: Target
    python: str
    """The Python there that drc-deploy is installed for: a program on its PATH, or a path."""
    folder: str | None
    """Folder there that keeps what was copied and built; None for a temporary one."""
    export: tuple[str, ...]
    """Options of ``drc-deploy export`` that make plans of ONNX files there; empty to measure them as they are."""

    @property
    def words(self) -> list[str]:
        """Return the options of the command line."""
        words = ["--remote", self.target.text, "--remote-python", self.python]
        words += ["--remote-dir", self.folder] if self.folder else []
        words += ["--remote-export", shlex.join(self.export)] if self.export else []
        return words


def run_remote_bench(options: BenchOptions, remote: RemoteOptions) -> Report:
    """Measure on the other machine and give its report; the crops are written into ``options.out``.

    Raises:
        DrcDeployError: nothing to measure was found, the other machine cannot be reached or cannot measure, or
            ``options.out`` is not writable.
    """
    cargo, commands = _pack(options, remote)
    check_writable(options.out)
    with tempfile.TemporaryDirectory(prefix=".remote-", dir=options.out) as staging:
        with connect(remote.target, remote.python) as link:
            offset_s = link.clock_offset_s
            outcome = _measure(link, Job(remote.folder, tuple(cargo.files), commands), cargo)
            _fetch(link.wire, outcome.files, Path(staging))
            link.wire.receive(Done)
        if not outcome.files:
            raise DrcDeployError(
                f"`drc-deploy bench` on {remote.target.text} ended with exit code {outcome.exit_code}.",
                "What it said is above.",
            )
        report = _read(Path(staging), cargo)
        _publish_crops(Path(staging), options.out)
    return _signed(report, options, remote, offset_s)


def _pack(options: BenchOptions, remote: RemoteOptions) -> tuple[Cargo, tuple[tuple[str, ...], ...]]:
    """Return the files to carry and the commands to run there."""
    cargo = Cargo()
    engines, commands = [], []
    for file in find_engine_files(options.engines, options.workdir):
        path = pack_engine(cargo, file)
        if remote.export and path.endswith(".onnx"):
            commands.append(("export", path, *remote.export))
            path = path.removesuffix(".onnx") + ".plan"
            cargo.names[path] = f"{file.path.with_suffix('.plan')} (made there)"
        engines.append(path)
    data = pack_images(cargo, options.data, options.lr_folder) if options.data is not None else None
    there = dataclasses.replace(
        options, engines=tuple(engines), workdir=Path("engines"), out=Path(RESULTS), data=Path(data) if data else None
    )
    commands.append(tuple(shlex.split(there.command)[1:]))
    return cargo, tuple(commands)


def _measure(link: Link, job: Job, cargo: Cargo) -> Outcome:
    """Send a job and the files that are missing, and wait."""
    link.wire.send(job)
    with link.wire.beating():
        missing = link.wire.receive(Missing).indices
    if not set(missing) <= set(range(len(job.files))):
        raise ArtefactError("the other machine asks for files that there are not.", "Install drc-deploy there.")
    try:
        _send_files(link.wire, cargo, missing)
    except LostError:
        link.wire.receive(Outcome)  # the other side has said why, if it could
        raise
    with link.wire.beating():
        return link.wire.receive(Outcome)


def _send_files(wire: Wire, cargo: Cargo, indices: tuple[int, ...]) -> None:
    if not indices:
        return
    pieces = sum(-(-cargo.files[index].size_bytes // PIECE_BYTES) for index in indices)
    with progress("copy, MiB", pieces) as bar:
        for index in indices:
            wire.send(Coming(index))
            left = cargo.files[index].size_bytes
            with cargo.sources[index].open("rb") as stream:
                while left and (piece := stream.read(min(left, PIECE_BYTES))):
                    wire.write(piece)
                    left -= len(piece)
                    bar.advance(note=cargo.sources[index].name)
            if left:
                raise ArtefactError(f"{cargo.sources[index]} became shorter as it was read.", "Type the command again.")


def _fetch(wire: Wire, files: tuple[CarriedFile, ...], folder: Path) -> None:
    """Take the files of a report into ``folder``; the names are the other machine's, and not trusted."""
    strange = [file.path for file in files if not _RESULT_NAME.fullmatch(file.path)]
    if strange or sum(file.size_bytes for file in files) > MOST_RESULT_BYTES:
        raise ArtefactError(f"the other machine sent what is no report: {strange[:1]}.", "Install drc-deploy there.")
    (folder / CROPS_FOLDER).mkdir()
    for file in files:
        content = b"".join(wire.content(file.size_bytes))
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise ArtefactError(f"{file.path} came damaged.", "Type the command again.")
        (folder / file.path).write_bytes(content)


def _read(folder: Path, cargo: Cargo) -> Report:
    """Read a report, and let it speak of the files here.

    Raises:
        ArtefactError: it is none, cannot be right, or shows files that did not come with it: the page would hold files
            of this machine.
    """
    values = records.parse_json_object((folder / REPORT_FILE).read_bytes(), REPORT_FILE)
    report = records.from_dict(Report, cargo.translated(values), REPORT_FILE)
    check_report(report, REPORT_FILE)
    came = {f"{CROPS_FOLDER}/{path.name}" for path in (folder / CROPS_FOLDER).iterdir()}
    strange = {tile.file for strip in report.crops for tile in strip.tiles} - came
    if strange:
        raise ArtefactError(f"the report shows files that did not come: {min(strange)}.", "Type the command again.")
    return report


def _publish_crops(staging: Path, out: Path) -> None:
    (out / CROPS_FOLDER).mkdir(exist_ok=True)
    for crop in (staging / CROPS_FOLDER).iterdir():
        crop.replace(out / CROPS_FOLDER / crop.name)


def _signed(report: Report, options: BenchOptions, remote: RemoteOptions, offset_s: float) -> Report:
    """Put in what only this machine knows: its clock, the command that was typed, and where was measured."""
    origin = RemoteOrigin(remote.target.text, offset_s)
    return dataclasses.replace(
        report,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        settings=dataclasses.replace(report.settings, command=f"{options.command} {shlex.join(remote.words)}"),
        warnings=(*report.warnings, *origin.warnings()),
        remote=origin,
    )

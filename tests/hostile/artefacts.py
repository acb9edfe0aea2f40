"""Files with others around them: plans, reports, suites, and what another machine sends."""

import dataclasses
import importlib.util
import io
import json
import os
import shlex
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file

from drc_deploy import __version__, records
from drc_deploy.bench.remote.there import BEGIN, RESULTS, Folder, Program, code_digest
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.report.report_files import REPORT_FILE, UNFINISHED_FILE, read_any, write_report
from drc_deploy.bench.run.inputs import BenchOptions
from drc_deploy.bench.suite.halves import NO_HALVES
from drc_deploy.bench.suite.run import FINISHED_FOLDER, MatrixSuite
from drc_deploy.checkpoint_info import METADATA_KEY, CheckpointInfo
from drc_deploy.engine_info import read_sidecar, sidecar_path
from drc_deploy.errors import MissingDependencyError
from drc_deploy.export.trt.builders import PlanShape, build_plan
from drc_deploy.export.trt.libraries import find_library
from drc_deploy.files import sha256_of
from drc_deploy.locate import sample_images
from drc_deploy.pairs import Photograph
from drc_deploy.runtime.backends.trt.backend import TensorRTBackend
from tests.bench import fakes
from tests.bench.reports import quiet, saved, steady
from tests.bench.suite.test_suite_run import open_fake_case
from tests.cli.test_plan_report import SIDECAR
from tests.hostile.example import Example, check_same_json, keep_template, run_command, work_place
from tests.hostile.trial import WrongResultError
from tests.runtime.networks import write_box, write_nearest


def reports(folder: Path) -> Iterator[Example]:
    """Yield a report with crops, and several merged."""
    home = folder / "reports"
    place = work_place(home)
    for number, name in enumerate(("before", "after"), 1):
        (place / name).mkdir(parents=True)
        made = fakes.report(*(steady(engine, 10.0 * number) for engine in ("a.onnx", "b.onnx")), folder=place / name)
        created = f"2026-02-0{number}T00:00:00+00:00"
        write_report(dataclasses.replace(fakes.with_telemetry(made), created=created), place / name)
    others = saved(place / "third", dataclasses.replace(quiet(steady("a.onnx", 9.0)), created="2026-02-03T00:00:00"))
    run_command("report", str(place / "before" / REPORT_FILE), str(others), "--out", str(place / "merged"))
    keep_template(home)
    yield Example("report single", home, f"after/{REPORT_FILE}", _read_report)
    yield Example("report merged", home, "merged/reports.json", _publish_report)


def _publish_report(path: Path) -> None:
    """Write the page again, elsewhere; what is copied is what the file says."""
    run_command("report", str(path), "--out", "out")
    written = Path("out", path.name)
    check_same_json(read_any(written), path)


def _read_report(path: Path) -> None:
    run_command("info", str(path))
    run_command("bench", "compare", f"before/{REPORT_FILE}", str(path))
    _publish_report(path)  # last, as it writes


def plans(folder: Path) -> Iterator[Example]:
    """Yield a plan of TensorRT for RTX, which needs no GPU to be built, and its sidecar."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return
    home = folder / "plan"
    place = work_place(home)
    place.mkdir(parents=True)
    write_box(place / "x.onnx")
    built = build_plan(find_library("tensorrt_rtx", None), place / "x.onnx", "fp32", PlanShape((32, 32), 1))
    (place / "x.plan").write_bytes(built.plan)
    sidecar = dataclasses.replace(
        SIDECAR, plan_sha256=sha256_of(place / "x.plan"), onnx_sha256=sha256_of(place / "x.onnx")
    )
    sidecar_path(place / "x.plan").write_text(sidecar.to_json())
    keep_template(home)
    yield Example("plan", home, "x.plan", _read_plan)
    yield Example("plan sidecar", home, "x.plan.json", lambda path: _read_plan(path.with_suffix("")))


def _read_plan(path: Path) -> None:
    """Read the sidecar; a plan that is not the one in it must not be loaded, with a GPU or without."""
    sidecar = read_sidecar(path)
    if sidecar:
        check_same_json(sidecar, sidecar_path(path))
    run_command("info", str(path))
    belongs = sidecar and sidecar.plan_sha256 == sha256_of(path)
    try:
        TensorRTBackend(path)
    except MissingDependencyError:  # no GPU
        return
    if not belongs:
        raise WrongResultError("a plan was loaded that its sidecar does not describe")


def suites(folder: Path) -> Iterator[Example]:
    """Yield what a stopped suite of two groups left."""
    home = folder / "suite"
    place = work_place(home)
    options = _suite_inputs(place)
    suite = _suite(options)
    first = next(suite.reports())
    write_report(first, options.out, UNFINISHED_FILE)
    keep_template(home)
    (part,) = (home / "template/work/bench" / FINISHED_FOLDER).iterdir()
    read = partial(_finish_suite, place=place, first=first)
    for name, file in (("part", f"{FINISHED_FOLDER}/{part.name}"), ("unfinished", UNFINISHED_FILE)):
        yield Example(f"suite {name}", home, f"work/bench/{file}", read)


def _finish_suite(_: Path, *, place: Path, first: Report) -> None:
    """Finish the suite; what was measured before is in its report as it was, or measured anew."""
    suite = _suite(_suite_options(place))
    report = list(suite.reports())[-1]
    suite.forget()
    if [engine.name for engine in report.engines] != ["a.safetensors", "b.safetensors"]:
        raise WrongResultError(f"another engine is in the report, which warns: {report.warnings}")
    again = report.engines[0].latency
    if again != first.engines[0].latency and not any(again.rounds_ms):
        raise WrongResultError("an engine was neither kept nor measured")


def _suite(options: BenchOptions) -> MatrixSuite:
    return MatrixSuite(options, None, open_fake_case, lambda: NO_HALVES, fakes.start)


def _suite_options(place: Path) -> BenchOptions:
    work = place / "work"
    return BenchOptions((), work, work / "bench", place / "data", None, 16, 16, 8, 0.0, None)


def _suite_inputs(place: Path) -> BenchOptions:
    pair = Photograph(sample_images()[0]).load(4)
    for name, image in (("HR", pair.hr[:64, :64]), ("LRx4", pair.lr[:16, :16])):
        (place / "data" / name).mkdir(parents=True)
        cv2.imwrite(str(place / "data" / name / "0.png"), image[:, :, ::-1])
    (place / "work").mkdir()
    for name in ("a", "b"):
        info = CheckpointInfo("drn_xs", 4, (8,), 0, 1, {}, None, "progressive")
        metadata = {METADATA_KEY: records.to_json(info)}
        save_file({name: np.zeros(1)}, place / f"work/{name}.safetensors", metadata=metadata)
    return _suite_options(place)


def remotes(folder: Path) -> Iterator[Example]:
    """Yield what another machine prints and the archive that it sends, played by an ``ssh`` that knows no network."""
    home = folder / "remote"
    place = work_place(home)
    (place / "bin").mkdir(parents=True)
    write_nearest(place / "n.onnx")
    said = records.to_json(Program(__version__, code_digest(), 1.8e9)), records.to_json(Folder("/tmp/x", {})), "0"
    (place / "session.jsonl").write_text("\n".join(("Welcome", BEGIN, *said)) + "\n")
    _write_archive(place / "archive.tar", _remote_report(place))
    script = place / "bin/ssh"
    script.write_text(
        f"#!/bin/sh\nfor last; do :; done\ncd {shlex.quote(str(place))}\n"
        f'case "$last" in *"tar -cf"*) echo {shlex.quote(BEGIN)}; exec cat archive.tar;;\n'
        '*"tar -x"*) exec cat > /dev/null;;\n*) cat session.jsonl; exec >&-; exec cat > /dev/null;; esac\n'
    )
    script.chmod(0o755)
    keep_template(home)
    for name, file in (("session", "session.jsonl"), ("archive", "archive.tar")):
        yield Example(f"remote {name}", home, file, partial(_bench_remotely, place=place))


def _bench_remotely(_: Path, *, place: Path) -> None:
    """Fetch a report; it is a whole one, and nothing else is written than a report and its crops."""
    os.environ["PATH"] = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    run_command("bench", "n.onnx", "--remote", "board", "--remote-python", "python3", "--size", "16x24")
    read_any(Path("drc_runs/bench", REPORT_FILE))
    json.loads(Path("drc_runs/bench", REPORT_FILE).read_bytes())


def _remote_report(place: Path) -> dict[str, bytes]:
    """Return the files of a report with crops, by their names there."""
    made = place / "made"
    made.mkdir()
    write_report(fakes.report(fakes.engine("n.onnx", 1.0), folder=made), made)
    return {path.relative_to(made).as_posix(): path.read_bytes() for path in made.rglob("*") if path.is_file()}


def _write_archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{RESULTS}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

import contextlib
import os
import resource
import signal
import time
from contextlib import closing
from multiprocessing import util
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drc_deploy.bench.measure.timing import TimingBudget
from drc_deploy.bench.run.worker import EngineProcess, Session
from drc_deploy.errors import ArtefactError, DrcDeployError, MissingDependencyError, Terminated
from tests.bench.fakes import OpenFake

IMAGE = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)


def test_a_process_answers_what_its_engine_computes() -> None:
    with closing(EngineProcess(OpenFake(Path("good.onnx"), None))) as process:
        assert process.ask(Session.describe).info.scale == 4
        result = process.ask(Session.upscale, IMAGE)
        before = time.perf_counter()
        timed = process.ask(Session.measure, [IMAGE], TimingBudget(5, 0.0))
        after = time.perf_counter()
        memory = process.ask(Session.memory)
    np.testing.assert_array_equal(result, IMAGE.repeat(4, axis=0).repeat(4, axis=1))
    assert len(timed.samples_ms) == 5
    assert min(timed.samples_ms) > 0
    assert before < timed.start_s < timed.end_s < after  # the two processes read one clock
    assert sum(timed.samples_ms) <= 1000 * (timed.end_s - timed.start_s) + 1e-6
    assert memory.host.value is not None
    assert 10 << 20 < memory.host.value < 2 << 30
    assert memory.device.value is None
    assert "fake" in memory.device.note


def test_what_a_library_prints_stays_out_of_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    EngineProcess(OpenFake(Path("good.onnx"), None)).close()
    assert capfd.readouterr().out == ""


def test_errors_travel_with_their_hints() -> None:
    with pytest.raises(MissingDependencyError, match="needs a GPU") as caught:
        EngineProcess(OpenFake(Path("gpu.plan"), None))
    assert caught.value.hint == "Run the ONNX."


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("fails", ArtefactError, "the network gave NaN"),
        ("breaks", DrcDeployError, "ZeroDivisionError: of its own"),
        ("crashes", DrcDeployError, "ended with signal SIGKILL"),
    ],
)
def test_a_failure_in_the_middle_is_reported(name: str, kind: type[DrcDeployError], sentence: str) -> None:
    with closing(EngineProcess(OpenFake(Path(f"{name}.onnx"), None))) as process, pytest.raises(kind, match=sentence):
        process.ask(Session.measure, [IMAGE], TimingBudget(20, 0.0))


def test_asking_an_engine_that_has_crashed_is_an_error_too() -> None:
    with closing(EngineProcess(OpenFake(Path("crashes.onnx"), None))) as process:
        for _ in range(2):
            with pytest.raises(DrcDeployError, match="SIGKILL"):
                process.ask(Session.measure, [IMAGE], TimingBudget(20, 0.0))


def test_an_engine_in_the_middle_of_a_run_is_not_waited_for() -> None:
    process = EngineProcess(OpenFake(Path("stalls.onnx"), None))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)  # as Ctrl-C
    with pytest.raises(KeyboardInterrupt):
        process.ask(Session.upscale, IMAGE)
    signal.signal(signal.SIGALRM, before)
    process.close()  # it sleeps for longer than any test may take


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_a_process_is_being_started_leaves_no_traceback(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    begin, children = util.spawnv_passfds, []

    def begin_and_stop(*arguments: Any) -> Any:
        child = begin(*arguments)
        children.append(child)
        if number == signal.SIGINT:  # a terminal sends it to the whole group
            time.sleep(0.1)  # Python prints a traceback for it from now on
            os.kill(child, number)
        os.kill(os.getpid(), number)
        return child

    def stop(received: int, _frame: object) -> None:
        raise Terminated if received == signal.SIGTERM else KeyboardInterrupt

    ensure_running()  # it is begun in the same way
    monkeypatch.setattr(util, "spawnv_passfds", begin_and_stop)
    before = signal.signal(number, stop)
    with pytest.raises(KeyboardInterrupt):
        EngineProcess(OpenFake(Path("fake.onnx"), None))
    signal.signal(number, before)
    with contextlib.suppress(ChildProcessError):  # it was waited for
        os.waitpid(children[-1], 0)
    assert "Traceback" not in capfd.readouterr().err


def test_an_engine_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(DrcDeployError, match=r"it took longer than 0\.5 s in all\.") as caught:
        EngineProcess(OpenFake(tmp_path / "stalls", None), 0.5).ask(Session.upscale, np.zeros((8, 8, 3), np.uint8))
    assert "--case-seconds" in caught.value.hint


def test_a_process_that_cannot_be_started_is_an_error_of_the_system() -> None:
    ensure_running()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    causes = []
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    for most in range(lowest, lowest + 40):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
        try:
            EngineProcess(OpenFake(Path("good.onnx"), None)).close()
            break
        except OSError as error:
            causes.append(error.strerror)
        except DrcDeployError as error:  # it has begun, and cannot go on
            causes.append(error.message)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert causes.count("Too many open files") > 1

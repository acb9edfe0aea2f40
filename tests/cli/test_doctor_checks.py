import json
import re
import signal
import subprocess
import sys
from importlib.metadata import metadata

import pytest

from drc_deploy.cli.doctor_checks import PROBES, TIMEOUT_S, USES, Finding, RunProbe, examine, findings_text, probe

METADATA = metadata("drc-deploy")
ANSWER = json.dumps([{"name": "torch on CPU", "usable": True, "detail": "torch 2", "install": ""}])


def answering(returncode: int, stdout: str = "", stderr: str = "") -> RunProbe:
    return lambda library: subprocess.CompletedProcess([], returncode, stdout, stderr)


def test_an_answer_is_found_behind_what_a_library_prints() -> None:
    (finding,) = examine(["torch"], answering(0, f"a banner\n{ANSWER}\n"))
    assert finding.usable
    assert findings_text([finding]) == "yes  torch on CPU: torch 2"


def test_each_thing_to_do_is_listed_once_with_all_that_it_mends() -> None:
    findings = [
        Finding("NVIDIA driver", False, "none", "install it"),
        Finding("torch on CPU", True, "torch 2", ""),
        Finding("pycuda", False, "no driver", "install it"),
        Finding("TensorRT", False, "missing", "pip install tensorrt"),
    ]
    assert findings_text(findings).split("\n\n")[1:] == [
        "For NVIDIA driver, pycuda:\n  install it",
        "For TensorRT:\n  pip install tensorrt",
    ]


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        (answering(-signal.SIGSEGV), "crashes with SIGSEGV"),
        (answering(1, "", "Traceback\nOSError: broken library"), "OSError: broken library"),
        (answering(0, "no JSON"), "no message"),
    ],
)
def test_a_library_that_crashes_is_an_answer_like_any_other(run: RunProbe, problem: str) -> None:
    (finding,) = examine(["tensorrt"], run)
    assert not finding.usable
    assert problem in finding.detail
    assert "install tensorrt again" in findings_text([finding])


def test_a_library_that_hangs_is_given_up() -> None:
    def hang(library: str) -> "subprocess.CompletedProcess[str]":
        raise subprocess.TimeoutExpired(library, TIMEOUT_S)

    assert "did not answer" in examine(["torch"], hang)[0].detail


def test_every_library_is_asked_and_whatever_is_missing_comes_with_a_way_to_get_it() -> None:
    findings = examine()
    assert len(findings) >= len(PROBES)
    assert [finding.name for finding in findings if not finding.usable and not finding.install] == []
    assert [finding.name for finding in findings if finding.detail.startswith(("crashes", "fails", "did not"))] == []


def test_onnx_runtime_is_usable_on_the_cpu_where_it_is_installed() -> None:
    pytest.importorskip("onnxruntime")
    usable = {finding.name for finding in examine(["onnxruntime"]) if finding.usable}
    assert "ONNX Runtime on CPU" in usable


def test_what_each_extra_brings_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for use, (extra, packages) in USES.items():
        lines = METADATA.get_all("Requires-Dist") or []
        needed = {re.split(r"[><=]", line)[0] for line in lines if f'extra == "{extra}"' in line}
        modules = {"pillow-jxl-plugin": "pillow_jxl"}
        assert set(packages) == {modules.get(name, name.replace("-", "_")) for name in needed}, use
    (finding,) = probe("files by URL")
    assert (finding.usable, finding.install) == (False, "pip install 'drc-deploy[remote]'")

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from drc_deploy.bench.suite import halves
from drc_deploy.bench.suite.halves import Halves, ask_torch, find_halves

NATIVE, EMULATED = frozenset({"avx512f", "avx512_bf16"}), frozenset({"avx512f", "avx512bw"})


def pretend(
    monkeypatch: pytest.MonkeyPatch, *, gpu: bool, bf16: bool = False, flags: frozenset[str] = NATIVE
) -> Halves:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    # Emulation is what torch counts as support where it is not told otherwise.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or bf16)
    monkeypatch.setattr(halves, "cpu_flags", lambda: flags)
    return find_halves()


def left_out(found: Halves) -> list[str]:
    assert all(item.why for item in found.left_out)
    return [item.what for item in found.left_out]


def test_a_gpu_takes_fp16_and_bf16_where_it_computes_it_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pretend(monkeypatch, gpu=True, bf16=True) == Halves(("fp16", "bf16"), ())
    old = pretend(monkeypatch, gpu=True, bf16=False)
    assert (old.precisions, left_out(old)) == (("fp16",), ["checkpoints in bf16"])


def test_a_cpu_takes_bf16_only_where_it_has_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    native = pretend(monkeypatch, gpu=False)
    assert (native.precisions, left_out(native)) == (("bf16",), ["checkpoints in fp16"])
    emulated = pretend(monkeypatch, gpu=False, flags=EMULATED)
    assert (emulated.precisions, left_out(emulated)) == ((), ["checkpoints in fp16", "checkpoints in bf16"])


def test_a_torch_without_onednn_has_no_fast_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert pretend(monkeypatch, gpu=False).precisions == ()


@pytest.mark.skipif(
    torch.cuda.is_available() or not hasattr(torch.cpu, "get_capabilities"), reason="torch does not tell of the CPU"
)
def test_this_machine_is_seen_as_torch_sees_it() -> None:
    seen = torch.cpu.get_capabilities()
    native = bool(seen.get("avx512_bf16") or seen.get("amx_bf16"))
    assert ask_torch().precisions == (("bf16",) if native else ())


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise ImportError('none')", "torch cannot be imported"),
        ("raise OSError('libtorch.so: cannot open shared object file')", "torch cannot be imported"),
        ("raise RuntimeError('CUDA error: all devices are busy')", "torch fails when it is asked"),
        ("import os; os._exit(9)", "torch fails when it is asked"),
    ],
)
def test_a_torch_that_is_missing_or_broken_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], source: str, why: str
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(f"print('it prints', flush=True)\n{source}\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = ask_torch()
    assert (found.precisions, left_out(found)) == ((), ["checkpoints in half precision"])
    assert found.left_out[0].why == why
    said = capfd.readouterr()
    assert (said.out, "it prints" in said.err) == ("", True)


def test_to_ask_does_not_import_torch_here() -> None:
    question = "import sys; from drc_deploy.bench.suite.halves import ask_torch; ask_torch()"
    subprocess.run([sys.executable, "-c", f"{question}; assert 'torch' not in sys.modules"], check=True)

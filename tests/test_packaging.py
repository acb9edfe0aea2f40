"""The package map is complete: a forgotten folder would be missing from the wheel."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("train", "export", "runtime", "bench")


def test_every_package_folder_is_listed() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^packages = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert block
    listed = set(re.findall(r'"([\w.]+)"', block[1]))
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for init in (ROOT / "drc_deploy").glob("**/__init__.py")
        if "__pycache__" not in init.parts
    }
    for room in ROOMS:
        for init in (ROOT / room).glob("**/__init__.py"):
            found.add(".".join(("drc_deploy", *init.parent.relative_to(ROOT).parts)))
    assert listed == found


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_links_to_the_top_level(room: str) -> None:
    assert (ROOT / "drc_deploy" / room).resolve() == ROOT / room


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


BLOCK = """
import sys
for name in {blocked}:
    sys.modules[name] = None
"""
HEAVY = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "pycuda",
    "matplotlib",
    "tensorboard",
    "av",
    "pynvml",
)


@pytest.mark.parametrize("room", ["runtime", "bench"])
def test_runtime_and_bench_import_without_torch_and_onnx(room: str) -> None:
    modules = sorted(
        ".".join(("drc_deploy", *path.relative_to(ROOT).with_suffix("").parts))
        for path in (ROOT / room).glob("**/*.py")
        if path.stem not in {"__init__", "__main__"} and not path.stem.startswith("torch_")
    )
    code = BLOCK.format(blocked=HEAVY) + "import importlib\n"
    code += "\n".join(f"importlib.import_module({name!r})" for name in modules)
    run_python(code)


@pytest.mark.parametrize("arguments", [["--help"], ["upscale", "--help"], ["bench", "compare", "--help"]])
def test_help_answers_at_once_and_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, time\n"
        "from drc_deploy.cli.main import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as done:\n"
        "    assert not done.code\n"
        f"loaded = [m for m in {(*HEAVY, 'rich')} if m in sys.modules]\n"
        "print('loaded:', loaded, 'cpu:', time.process_time())\n"
    )
    last = run_python(code).splitlines()[-1]
    assert "loaded: []" in last
    assert float(last.rsplit(" ", 1)[1]) < 0.5


def test_imports_run_one_way() -> None:
    """Arrows: cli -> stages -> core; runtime below export and bench; no stage imports another."""
    allowed = {
        "train": set(),
        "runtime": set(),
        "export": {"runtime"},
        "bench": {"runtime"},
    }
    for room, others in allowed.items():
        for path in (ROOT / room).glob("**/*.py"):
            used = set(re.findall(r"drc_deploy\.(train|export|runtime|bench|cli)\b", path.read_text())) - {room}
            assert used <= others, path
    for path in [*(ROOT / "drc_deploy").glob("*.py"), *(ROOT / "drc_deploy" / "models").glob("*.py")]:
        if path.name != "__main__.py":
            assert not re.findall(
                r"^\s*(?:from|import) drc_deploy\.(?:train|export|runtime|bench|cli)", path.read_text(), re.M
            ), path

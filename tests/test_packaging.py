"""The package map is complete: a forgotten folder would be missing from the wheel."""

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from drc_deploy.cli.main import EXTRAS
from tests.imports import ROOMS, ROOT, source_files
from tests.patience import PATIENCE_S

NEED_TORCH = (
    "runtime.backends.pytorch",
    "runtime.tiling.exact_torch",
    "bench.programs.torch_program",
    "bench.run.torch_reference",
)
"""What is imported only where a checkpoint is run."""


NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", "build", ".*_cache", "__pycache__", "tests", "docs", "*_out", "drc_runs"
)
BUILD = "from setuptools import build_meta as b; import sys; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build an sdist or a wheel of a checkout."""
    made = subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{kind}", str(folder)], cwd=source, capture_output=True, check=True
    )
    return folder / made.stdout.split()[-1].decode()


CORE = {"cv2", "click", "isal", "jinja2", "msgspec", "numpy", "PIL", "pynvml", "rich", "safetensors", "simplejpeg"}
CORE |= {"tifffile", "tomli"}
HANDLED = {"ncnn", "openvino", "pnnx", "pycuda", "tensorboard", "tensorrt", "tensorrt_rtx", "torchvision", "spandrel"}
"""What is looked for by name, or missed with words of its own."""
WITH_OTHERS = {"aiohttp", "google", "typing_extensions"}
"""Comes with fsspec and onnx, imported before it; and what is for type checkers."""


def test_every_package_that_may_be_missing_has_its_extra() -> None:
    found = set()
    for path in source_files().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    others = found - set(sys.stdlib_module_names) - CORE - HANDLED - WITH_OTHERS - {"drc_deploy"}
    assert sorted(others - EXTRAS.keys()) == []


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from an sdist of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    copy = folder / "checkout"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=NOT_COPIED)
    sdist = build("sdist", copy, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return build("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder)


@pytest.fixture(scope="session")
def without_links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout as git makes it where there are no symbolic links: each is a text file with the path."""
    copy = tmp_path_factory.mktemp("windows") / "checkout"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=NOT_COPIED)
    for room in ROOMS:
        (copy / "drc_deploy" / room).unlink()
        (copy / "drc_deploy" / room).write_text(f"../{room}")
    return copy


def modules_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        names = [Path(name) for name in archive.namelist() if name.endswith(".py")]
    return {".".join(name.with_suffix("").parts).removesuffix(".__init__") for name in names}


def test_a_checkout_without_links_runs(without_links: Path) -> None:
    imports = "import drc_deploy.runtime.upscaler, drc_deploy.cli.main as m; print(m.__file__); m.main(['--help'])"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for words in (["-m", "drc_deploy", "--help"], ["-c", imports]):
        run = subprocess.run(
            [sys.executable, *words], cwd=without_links, env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        assert "Usage: drc-deploy" in run.stdout
    assert run.stdout.startswith(str(without_links))


def test_a_checkout_without_links_makes_the_same_wheel(without_links: Path, wheel: Path, tmp_path: Path) -> None:
    assert modules_in(build("wheel", without_links, tmp_path)) == modules_in(wheel)


def test_the_wheel_has_every_module_and_data_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name) for name in archive.namelist()}
    assert modules_in(wheel) == source_files().keys()
    for folder in ("weights", "samples", "recipes"):
        assert {name.name for name in names if name.parent == Path("drc_deploy", folder)} == {
            path.name for path in (ROOT / "drc_deploy" / folder).iterdir()
        }


def data_files(room: str) -> set[str]:
    """Return the files of a room that are no Python, by their names in the wheel."""
    files = (path for path in (ROOT / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"drc_deploy/{path.relative_to(ROOT).as_posix()}" for path in files if path.suffix != ".py"}


@pytest.mark.parametrize("room", ROOMS)
def test_the_wheel_has_every_data_file_of_the_rooms(wheel: Path, room: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert data_files(room) - set(archive.namelist()) == set()


def test_a_page_needs_its_templates() -> None:
    assert "drc_deploy/bench/show/templates/base.html" in data_files("bench")


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_links_to_the_top_level(room: str) -> None:
    assert (ROOT / "drc_deploy" / room).resolve() == ROOT / room


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
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
    "jinja2",
)


@pytest.mark.parametrize("room", ["runtime", "bench"])
def test_runtime_and_bench_import_without_torch_and_onnx(room: str) -> None:
    skipped = tuple(f"drc_deploy.{name}" for name in NEED_TORCH)
    modules = [
        name for name in source_files() if name.startswith(f"drc_deploy.{room}") and not name.startswith(skipped)
    ]
    code = BLOCK.format(blocked=HEAVY) + "import importlib\n"
    code += "\n".join(f"importlib.import_module({name!r})" for name in modules)
    run_python(code)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["upscale", "--help"], ["bench", "--help"], ["bench", "compare", "--help"], ["train", "--help"]],
)
def test_help_answers_at_once_and_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, time\n"
        "from drc_deploy.cli.main import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as done:\n"
        "    assert not done.code\n"
        f"loaded = [m for m in {(*HEAVY, 'rich', 'cv2')} if m in sys.modules]\n"
        "print('loaded:', loaded, 'cpu:', time.process_time())\n"
    )
    last = run_python(code).splitlines()[-1]
    assert "loaded: []" in last
    assert float(last.rsplit(" ", 1)[1]) < 0.5

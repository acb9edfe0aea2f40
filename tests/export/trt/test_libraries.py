import importlib
import re
import types

import pytest

from drc_deploy.errors import MissingDependencyError
from drc_deploy.export.request import BuilderChoice
from drc_deploy.export.trt.gpu import Gpu
from drc_deploy.export.trt.libraries import Library, find_library

GPU = Gpu("Orin", "8.7", None)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names that can be imported."""
    names: set[str] = set()

    def fake_import(name: str) -> object:
        if name not in names:
            raise ImportError(name)
        return object()

    monkeypatch.setattr(importlib, "import_module", fake_import)
    return names


@pytest.mark.parametrize(
    ("choice", "gpu", "there", "expected"),
    [
        ("auto", GPU, {"tensorrt", "tensorrt_rtx"}, "tensorrt"),
        ("auto", None, {"tensorrt", "tensorrt_rtx"}, "tensorrt_rtx"),
        ("auto", GPU, {"tensorrt_rtx"}, "tensorrt_rtx"),
        ("tensorrt_rtx", GPU, {"tensorrt", "tensorrt_rtx"}, "tensorrt_rtx"),
        ("tensorrt", GPU, {"tensorrt"}, "tensorrt"),
    ],
)
def test_the_library_follows_the_choice_and_the_gpu(
    installed: set[str], choice: BuilderChoice, gpu: Gpu | None, there: set[str], expected: str
) -> None:
    installed |= there
    assert find_library(choice, gpu).name == expected


@pytest.mark.parametrize(
    ("choice", "gpu", "there", "words"),
    [
        ("auto", None, {"tensorrt"}, r"drc-deploy\[rtx\]"),
        ("auto", GPU, set(), r"drc-deploy\[trt\]"),
        ("tensorrt", GPU, {"tensorrt_rtx"}, r"drc-deploy\[trt\]"),
        ("tensorrt", None, {"tensorrt", "tensorrt_rtx"}, "--builder tensorrt_rtx"),
        ("tensorrt_rtx", GPU, {"tensorrt"}, r"drc-deploy\[rtx\]"),
    ],
)
def test_what_is_missing_is_named(
    installed: set[str], choice: BuilderChoice, gpu: Gpu | None, there: set[str], words: str
) -> None:
    installed |= there
    with pytest.raises(MissingDependencyError) as caught:
        find_library(choice, gpu)
    assert re.search(words, caught.value.hint)


def test_a_library_that_returns_no_builder_is_an_error() -> None:
    def refuse(logger: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    library = Library("tensorrt", types.SimpleNamespace(Builder=refuse, __version__="10.3.0"))
    with pytest.raises(MissingDependencyError, match=r"tensorrt 10\.3\.0 does not start here"):
        library.start_builder(None)

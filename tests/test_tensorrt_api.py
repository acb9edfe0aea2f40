"""Every attribute of TensorRT that the program touches is in every version, or the program asks for it first."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from drc_deploy.export.trt.libraries import Library
from tests.export.trt.recorded_binding import RecordedBinding
from tests.tensorrt_api import UNLISTED, VERSIONS, Listing, read_listing
from tests.tensorrt_usage import MODULE, Access, Program

ROOT = Path(__file__).parent.parent
FOLDERS = [ROOT / name for name in ("drc_deploy", "export", "runtime", "bench")]

ONLY_WHERE: dict[tuple[str, str], Callable[[Listing], bool]] = {
    ("BuilderFlag", "FP16"): lambda listing: not _library(listing).strongly_typed,
    ("BuilderFlag", "INT8"): lambda listing: not _library(listing).strongly_typed,
    ("IBuilderConfig", "progress_monitor"): lambda listing: listing.has(MODULE, "IProgressMonitor"),
}
"""Attributes behind a condition that asks for another one: the versions in which the condition holds."""


def _library(listing: Listing) -> Library:
    return Library(listing.library, RecordedBinding(listing.name, kinds=()))


def _faults(accesses: list[Access]) -> list[str]:
    """Say what some version lacks that comes there, and what no version has that is asked for."""
    listings = [read_listing(version) for version in VERSIONS]
    faults = []
    for access in accesses:
        coming = [listing for listing in listings if _comes(listing, access)]
        absent = [listing.name for listing in coming if not listing.has(access.owner, access.name)]
        if len(absent) == len(coming) or (absent and not access.asks):
            faults.append(f"{access.place}: {access.owner or 'the module'} has no {access.name} in {', '.join(absent)}")
    return faults


def _comes(listing: Listing, access: Access) -> bool:
    """Whether the program comes to an access with this version."""
    if (rule := ONLY_WHERE.get((access.owner, access.name))) and not rule(listing):
        return False
    return all(listing.has(fact.owner, fact.name) == fact.holds for fact in access.where)


@pytest.fixture(scope="module")
def accesses() -> list[Access]:
    return Program.of(FOLDERS).accesses()


def test_training_has_nothing_to_do_with_tensorrt() -> None:
    assert [path for path in (ROOT / "train").rglob("*.py") if "tensorrt" in path.read_text().lower()] == []


def test_there_are_listings_of_all_versions() -> None:
    assert len(VERSIONS) == 8
    assert {version for version in VERSIONS if len(read_listing(version).classes) > 15} == set(VERSIONS)


def test_every_attribute_that_is_touched_is_in_every_version(accesses: list[Access]) -> None:
    assert _faults(accesses) == []


def test_the_ways_of_the_objects_are_followed(accesses: list[Access]) -> None:
    """One attribute for each way that an object takes: a change of the program must not hide one from this test."""
    found = {(access.owner, access.name, Path(access.place).name.split(":")[0]) for access in accesses}
    assert {
        (MODULE, "Builder", "doctor_checks.py"),  # an import by name, then a parameter
        (MODULE, "OnnxParser", "builders.py"),  # a field of a dataclass, then an attribute of self
        ("Builder", "error_recorder", "builders.py"),  # assigned to
        ("IBuilderConfig", "create_timing_cache", "timing_cache.py"),  # a parameter in another file
        ("IBuilderConfig", "DLA_core", "plan_options.py"),  # a parameter of a parameter
        ("ILayer", "num_outputs", "layer_precision.py"),  # an item of a list
        ("ILayer", "name", "plan_options.py"),  # an item of a list that was made from a list
        ("ErrorCodeTRT", "FAILED_ALLOCATION", "listeners.py"),  # a class inside a function
        ("Runtime", "deserialize_cuda_engine", "layer_precision.py"),  # the result of a function in another room
        ("IExecutionContext", "execute_async_v3", "plan.py"),
    } <= found


def test_the_rules_for_single_attributes_are_used(accesses: list[Access]) -> None:
    assert set(ONLY_WHERE) <= {(access.owner, access.name) for access in accesses}


START = """
import importlib
from typing import Any

def start(logger: Any) -> None:
    trt = importlib.import_module("tensorrt")
    builder = trt.Builder(logger)
"""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("    if builder.platform_has_fast_fp16: pass", "Builder has no platform_has_fast_fp16 in tensorrt-11.0.0"),
        ("    config = builder.create_bulider_config()", "Builder has no create_bulider_config in tensorrt-10.13.3,"),
        ("    builder.create_builder_config().max_workspace = 1", "IBuilderConfig has no max_workspace"),
        ("    builder.create_builder_config().set_flag(trt.BuilderFlag.FP8)", "BuilderFlag has no FP8 in tensorrt-11"),
        ("    trt.Runtime(logger).get_engine_validity(b'')", "Runtime has no get_engine_validity"),
        ("    other = builder\n    other.nothing", "Builder has no nothing"),
        ("    one, two = 1, builder\n    two.nothing", "Builder has no nothing"),
        ("    with builder as two:\n        two.nothing", "Builder has no nothing"),
        ("    for one in [builder]:\n        one.nothing", "Builder has no nothing"),
        ("    [one.nothing for one, _ in zip([builder], [1])]", "Builder has no nothing"),
        ("    (lambda: builder.nothing)()", "Builder has no nothing"),
        ("    help_it(1, it=builder)\ndef help_it(a: int, it: Any) -> None:\n    it.nothing", "Builder has no nothing"),
        ("    give(builder).nothing\ndef give(it: Any) -> Any:\n    return it", "Builder has no nothing"),
        (
            "    Keeps(builder)\nclass Keeps:\n    it: Any\n    def go(self) -> None:\n        self.it.nothing",
            "no nothing",
        ),
        ("    getattr(builder, 'nothing')", "Builder has no nothing"),
        ("    getattr(builder, 'nothing', None)", "Builder has no nothing"),
        ("    if hasattr(trt, 'nothing'): pass", "the module has no nothing"),
        ("    getattr(builder, name)", "Builder has no <name>"),
        ("    if not hasattr(builder, 'build_engine'): builder.build_engine()", "Builder has no build_engine in"),
        ("    if hasattr(builder, 'build_engine'): pass\n    builder.build_engine()", "Builder has no build_engine in"),
        ("    hasattr(builder, 'build_engine') or builder.build_engine()", "Builder has no build_engine in"),
        ("    builder.logger.nothing", r"\?Builder.logger has no nothing"),
    ],
)
def test_an_attribute_that_some_version_lacks_is_a_fault(text: str, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        assert not _faults(Program({"x.py": START + text}).accesses()), fault


@pytest.mark.parametrize(
    "text",
    [
        "    if getattr(builder, 'platform_has_fast_fp16', False): pass",
        "    if hasattr(builder, 'platform_has_fast_fp16') and builder.platform_has_fast_fp16: pass",
        "    if not hasattr(builder, 'build_engine'): return\n    builder.build_engine()",
        "    if hasattr(trt, 'IRuntimeConfig'):\n        trt.ExecutionContextAllocationStrategy.USER_MANAGED",
        "    trt.DataType.BF16 if hasattr(trt.DataType, 'BF16') else trt.DataType.HALF",
        "    if hasattr(trt, 'ComputeCapability'):\n        pass\n    else:\n        builder.num_DLA_cores",
        "    if not hasattr(trt, 'EngineValidity') or trt.EngineValidity.VALID: pass",
        "    builder.create_network(0).get_layer(0).type.name.lower()",
        "    logger.nothing",
        "    [builder].append(builder)",
    ],
)
def test_what_is_asked_for_or_python_s_own_is_none(text: str) -> None:
    assert _faults(Program({"x.py": START + text}).accesses()) == []


def test_asking_for_one_object_says_nothing_of_another() -> None:
    text = START + "    if hasattr(trt, 'platform_has_fast_fp16') and builder.platform_has_fast_fp16: pass"
    assert any(
        "Builder has no platform_has_fast_fp16" in fault for fault in _faults(Program({"x.py": text}).accesses())
    )


def test_the_installed_library_has_what_the_listings_leave_out() -> None:
    pytest.importorskip("tensorrt_rtx")
    library = importlib.import_module("tensorrt_rtx")
    for owner, names in UNLISTED.items():
        assert all(hasattr(getattr(library, owner), name) for name in names), owner

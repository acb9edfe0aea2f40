from typing import Any

import pytest

from drc_deploy.export.trt.listeners import BuildLog, make_logger, make_recorder

trt: Any = pytest.importorskip("tensorrt_rtx")


def test_a_profile_that_is_not_self_consistent_is_an_error_though_the_library_only_warns() -> None:
    log = BuildLog()
    make_logger(trt, log).log(trt.ILogger.WARNING, "Profile kMIN values are not self-consistent. x")
    make_logger(trt, log).log(trt.ILogger.WARNING, "something else")
    assert log.errors == ["Profile kMIN values are not self-consistent. x"]


def test_a_failed_allocation_is_not_an_error_by_itself_but_explains_one() -> None:
    log = BuildLog()
    make_recorder(trt, log).report_error(trt.ErrorCodeTRT.FAILED_ALLOCATION, "too much")
    assert log.errors == []
    assert log.words() == "too much"


def test_errors_come_once_on_one_bounded_line() -> None:
    log = BuildLog(errors=["a\n  b", "a b", "c" * 5000], remarks=["unused"])
    assert log.words().startswith("a b; ccc")
    assert len(log.words()) < 1000


def test_a_build_without_messages_is_reported_so() -> None:
    assert BuildLog().words() == "it gave no reason"

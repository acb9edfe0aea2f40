"""Ctrl-C and SIGTERM are heard between steps."""

import os
import signal
import threading

import pytest

from drc_deploy.errors import Terminated
from drc_deploy.interruption import whole_step


def test_ctrl_c_inside_a_step_is_raised_after_it() -> None:
    done = []

    def step() -> None:
        with whole_step():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("rest of the step")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == ["rest of the step"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_inside_a_step_is_raised_after_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    done = []

    def step() -> None:
        with whole_step():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("rest of the step")

    with pytest.raises(Terminated):
        step()
    assert done == ["rest of the step"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_inside_a_step_passes_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="broken"), whole_step():
        raise ValueError("broken")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_step_in_another_thread_runs() -> None:
    done = []

    def work() -> None:
        with whole_step():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]

"""Joins a Ray that runs, or starts one on this machine."""

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from typing import Any

from drc_deploy.errors import DrcDeployError, MissingDependencyError, UsageError
from drc_deploy.runtime.memory.host import usable_cores

HERE = "local"
"""Stands for a Ray that is started on this machine, and ends with the command."""
_OBJECT_STORE_BYTES = 80 << 20
"""About the least that Ray takes: no pixels go through it."""
_ANSWER_S = 10.0
_LAST_WORDS = 30
"""Tenths of a second."""


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be a program of the Ray at ``address``, or of one that is started here, while the block runs.

    Args:
        address: ``HOST:PORT`` of a Ray that this machine belongs to, ``auto``, or ``HERE``.

    Raises:
        UsageError: it is no address.
        DrcDeployError: no Ray answers there, it wants a token that is not known here, or none can be started here.
        MissingDependencyError: Ray or Python is of another version there.
        ModuleNotFoundError: Ray is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import, which reads both
    if address != HERE:
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")  # or it would try for minutes
    import ray
    from ray.exceptions import RayError

    if address not in (HERE, "auto"):
        _check_answers(address)
    with ExitStack() as stack:
        started = _settings_of_own(stack.enter_context(_folder_of_ray())) if address == HERE else {}
        try:
            with _own_sigterm():
                ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **started)
        except (RayError, OSError, RuntimeError, ValueError) as error:  # it has few classes of its own for these
            raise _cannot_connect(address, error) from error
        # What Ray has to say of machines that leave goes to standard output, in the middle of a result.
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            try:
                yield
            finally:
                ray.shutdown()


@contextmanager
def _folder_of_ray() -> Iterator[str]:
    """Yield a new folder in ``TMPDIR``, which is gone at the end."""
    folder = tempfile.mkdtemp(prefix="ray")
    try:
        yield folder
    finally:
        for _ in range(_LAST_WORDS):  # processes of Ray that are ending write to it meanwhile
            shutil.rmtree(folder, ignore_errors=True)
            if not os.path.exists(folder):
                break
            time.sleep(0.1)


def _settings_of_own(folder: str) -> dict[str, Any]:
    """Return how a Ray is started that writes to ``folder`` only and obeys nobody but this program."""
    # Its ports can be reached from outside, and it obeys whoever knows the token. Ray would keep one in the home.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    return {
        "num_cpus": usable_cores(),
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
        "_temp_dir": folder,
    }


def _check_answers(address: str) -> None:
    """Find out in seconds whether anything listens; Ray itself tries for minutes.

    Raises:
        UsageError: it is no address.
        DrcDeployError: nothing listens.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(
            f"{address} is no address of a Ray.",
            "Give HOST:PORT, as `ray start --head` prints it; without an address, put --ray last.",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise _no_ray_at(address) from error


def _no_ray_at(address: str) -> DrcDeployError:
    hint = "Start one (`ray start --head`), or leave out the address: then Ray starts on this machine."
    return DrcDeployError(f"no Ray answers at {address}.", hint)


def _cannot_connect(address: str, error: Exception) -> DrcDeployError:
    if "Version mismatch" in str(error):
        versions = " ".join(str(error).split())
        hint = "Install the same Ray and Python on all machines."
        return MissingDependencyError(f"the Ray at {address} is of another version. {versions}", hint)
    if "AuthenticationError" in f"{error!r} {error.__cause__}":
        hint = "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN as on its machines."
        return DrcDeployError(f"the Ray at {address} wants its token.", hint)
    if address != HERE:
        return _no_ray_at(address)
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return DrcDeployError(
        f"Ray cannot be started here: {reason}", "If it is a name that is too long, set TMPDIR to /tmp."
    )


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what SIGTERM does here: Ray puts a function of its own in its place."""
    handler = signal.getsignal(signal.SIGTERM)
    keep = threading.current_thread() is threading.main_thread()
    try:
        yield
    finally:
        if keep:
            with suppress(TypeError):  # a handler that C code has set
                signal.signal(signal.SIGTERM, handler)

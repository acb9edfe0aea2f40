"""A service that really listens, in a thread, for tests."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from drc_deploy.runtime.service.app import make_app
from drc_deploy.runtime.service.listening import listen, make_server
from drc_deploy.runtime.service.service import Limits, Service, open_engines


@contextmanager
def running(
    paths: Sequence[Path], limits: Limits | None = None, token: str | None = None, *, unsent: int | None = None
) -> Iterator[tuple[Service, httpx.Client]]:
    """Serve engines at a free port, and return the service and a client of it.

    Args:
        paths: of the engines.
        limits: of the service.
        token: callers must send it.
        unsent: bytes that the system keeps for a caller who does not read.
    """
    service = Service(open_engines(paths, threads=2), limits or Limits())
    with listen("127.0.0.1", 0) as listener:
        if unsent:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, unsent)
        server = make_server(make_app(service, token), service)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            host, port = listener.getsockname()
            with httpx.Client(base_url=f"http://{host}:{port}", timeout=60) as client:
                yield service, client
        finally:
            server.should_exit = True
            thread.join()
            service.close()

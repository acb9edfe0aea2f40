"""The socket of a service, and the server that answers there."""

import asyncio
import logging
import math
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from drc_deploy.errors import UsageError
from drc_deploy.runtime.service.connections import IDLE_S, connections, loop_errors
from drc_deploy.runtime.service.service import Service

_log = logging.getLogger(__name__)

_BACKLOG = 2048
_TRIES = 8
"""To take connections at once: where none can be taken, asyncio goes on trying, and repeats each try a second later."""


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Open the socket, before anything is loaded.

    Raises:
        UsageError: another program has the port, or this machine has no such address.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"{host} port {port} cannot be listened at: {reason}.", "Give another --port or --host."
        ) from error
    with listener:
        yield listener


class _Server(uvicorn.Server):
    """Says when it ends, so that no more requests are taken, and ends as a program that is done."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        is_main = threading.current_thread() is threading.main_thread()  # others get no signals
        stopping = (signal.SIGINT, signal.SIGTERM) if is_main else ()
        before = [signal.signal(number, self.handle_exit) for number in stopping]
        try:
            yield
        finally:
            for number, handler in zip(stopping, before, strict=True):
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(loop_errors())
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)  # the server has said `_TRIES` here too

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.ending = True
        if count := self._service.under_way:
            _log.warning("Finishing %d request%s. A second Ctrl-C ends at once.", count, "s" if count > 1 else "")
        await super().shutdown(sockets)


def make_server(app: FastAPI, service: Service) -> uvicorn.Server:
    """Return what answers; it logs as this process does."""
    seconds = service.limits.seconds
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=connections(seconds, lambda: service.ending),
        ws="none",
        lifespan="off",  # when it is cut short, it logs a traceback
        backlog=_TRIES,
        timeout_keep_alive=math.ceil(IDLE_S),
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=math.ceil(seconds),  # or one that does not read keeps it from ending
        server_header=False,
    )
    return _Server(config, service)


def serve(app: FastAPI, service: Service, listener: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM, and then finish what is under way."""
    make_server(app, service).run(sockets=[listener])

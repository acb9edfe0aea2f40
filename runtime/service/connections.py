"""Connections of a service. Each ends by itself: callers may vanish without a word, or send and read nothing."""

import asyncio
import errno
import logging
import math
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from drc_deploy.files import hint_for

_log = logging.getLogger(__name__)

IDLE_S = 30.0
"""For the head of a request, from the start of the connection or the answer before, however many pieces it is in."""
_SAID_S = 60.0
"""Between two warnings of the same."""
_AT_ONCE = struct.pack("ii", 1, 0)
"""How a socket is to linger when it is closed."""
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Connection(H11Protocol):
    """Closes when no request comes, and cuts off who does not take an answer.

    Attributes:
        sending_s: Seconds for what is left of the last answer.
        service_ends: Whether no more requests are taken.
    """

    sending_s = 300.0
    service_ends = staticmethod(lambda: False)
    _ending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        self.app = _WholeOrCut(self.app, self)
        self._watch()
        if self.service_ends():  # what ends has closed the others already, and waits for this one
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_lost(exc)
        self._forget()
        self.app = self.config.loaded_app  # or this object would wait for the garbage collector

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def _should_upgrade(self) -> bool:
        return False  # as any server may; uvicorn would log what to install at every request of some clients

    def _watch(self) -> None:
        waits = self.cycle is None or self.cycle.response_complete
        if not waits:
            self._forget()
        elif self._ending is None:
            self._ending = self.loop.call_later(IDLE_S, self._end)

    def _end(self) -> None:
        self._ending = self.loop.call_later(self.sending_s, self.cut)
        self.transport.close()  # when all is sent: never, where nobody reads

    def cut(self) -> None:
        """End at once, with what was not sent: the system would go on trying to send that."""
        with suppress(OSError):  # the caller has gone meanwhile
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def _forget(self) -> None:
        if self._ending:
            self._ending.cancel()
            self._ending = None


class _WholeOrCut:
    """An ASGI application whose answers arrive whole, or their connection is cut: else the rest would be kept."""

    def __init__(self, app: Any, connection: Connection) -> None:
        self._app: ASGIApp = app
        self._connection = connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = self._connection.cycle
        try:
            await self._app(scope, receive, send)
        finally:
            if cycle.response_started and not cycle.response_complete:
                self._connection.cut()


def connections(sending_s: float, service_ends: Callable[[], bool]) -> type[Connection]:
    """Return the class of connections with these attributes."""
    attributes = {"sending_s": sending_s, "service_ends": staticmethod(service_ends)}
    return type("ConnectionOfService", (Connection,), attributes)


def loop_errors() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return what handles errors of a loop: that no connection can be taken is a sentence once a minute.

    asyncio says it with a traceback each time, and once more for each when the socket is closed before the next try.
    """
    last = -math.inf

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal last
        error, what = context.get("exception"), context["message"]
        if "accept" in what and isinstance(error, OSError) and error.errno in _NO_ROOM:
            if time.monotonic() - last >= _SAID_S:
                last = time.monotonic()
                _log.warning("No more connections can be taken: %s. %s", error.strerror, hint_for(error))
        elif "_start_serving" not in what:
            loop.default_exception_handler(context)

    return handle

"""Requests as others see them: counted for Prometheus, and a line for each in the log."""

import asyncio
import string
import time
from collections.abc import Callable
from datetime import datetime, timezone
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drc_deploy.runtime.service.answers import ending_answer
from drc_deploy.runtime.service.measures import Measures

Log = Callable[[str], object]
"""Is given a line."""
_NO_ANSWER = "without an answer"
_VISIBLE = string.punctuation
"""Stays as it is in lines of requests, as letters and digits do."""


class Counted:
    """An ASGI application whose answers to requests for images are counted, and whose requests are logged."""

    def __init__(self, app: ASGIApp, measures: Measures, log: Log | None) -> None:
        """Wrap ``app``; ``log`` is given a line for each request, None: nobody wants them."""
        self._app, self._measures, self._log = app, measures, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the specification of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, gone, start = _NO_ANSWER, False, time.monotonic()

        async def watched() -> Message:
            nonlocal gone
            message = await receive()
            gone = gone or message["type"] == "http.disconnect"
            return message

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start" and not gone:  # else it goes nowhere
                status = f"{message['status']}"
                if scope["path"] == "/v1/upscale":
                    self._measures.answered(message["status"])
            await send(message)

        try:
            await self._app(scope, watched, counted)
        except asyncio.CancelledError:  # the server has no more time; uvicorn would log a traceback
            if status == _NO_ANSWER:
                await ending_answer()(scope, watched, counted)
        finally:
            if self._log:
                self._log(_line(scope, status, time.monotonic() - start))


def _line(scope: Scope, status: str, seconds: float) -> str:
    """Return the line of a request; nothing that its caller chooses has a space, or is obeyed by a terminal."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    caller = scope["client"][0] if scope.get("client") else "-"
    asked = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    return f"{now} {quote(caller, _VISIBLE)} {scope['method']} {quote(asked, _VISIBLE)} {status} {seconds:.3f} s"

"""What callers send: an image as the body or in a form, kept within a size."""

import shutil
from contextlib import suppress
from pathlib import Path

import anyio
from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DRAIN_S, _SILENCE_S = 10.0, 10.0
_HEAD_BYTES = 1 << 12
_FORM = "Send the image as the file `image`; what is asked for belongs to the address, such as ?width=300."
_WHOLE = "drc_deploy.body_is_whole"
"""In the scope of a request: nothing of its body is left to read."""


class BodyLimit:
    """An ASGI application that refuses bodies above a size, whatever they say of their length."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        """Wrap ``app``; ``most`` is in bytes."""
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the specification of ASGI."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            if scope.get(_WHOLE):
                return await receive()  # that the caller has gone, whenever that is
            with anyio.fail_after(_SILENCE_S):
                message = await receive()
            received += len(message.get("body", b""))
            scope[_WHOLE] = not message.get("more_body", False)
            if received > self._most:
                sentences = {"error": f"the body is larger than {self._most} bytes.", "hint": "Send a smaller file."}
                raise HTTPException(413, sentences)
            return message

        await self._app(scope, counted, send)


async def save_body(request: Request, path: Path) -> None:
    """Write the image of a request to a file: the body, or the field ``image`` of a form.

    Raises:
        HTTPException: there is none, or it is too large.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        try:
            async with request.form(max_files=1, max_fields=0) as form:
                await _save_field(form.get("image"), path)
        except StarletteHTTPException as error:
            if isinstance(error.detail, str):  # of the framework
                raise HTTPException(400, {"error": "the form is not one file `image`.", "hint": _FORM}) from error
            raise
        return
    with path.open("wb") as file:
        async for piece in request.stream():
            file.write(piece)


async def _save_field(field: UploadFile | str | None, path: Path) -> None:
    if not isinstance(field, UploadFile):
        raise HTTPException(400, {"error": "the form has no file `image`.", "hint": _FORM})
    with path.open("wb") as file:
        await run_in_threadpool(shutil.copyfileobj, field.file, file)


def was_changed_by_curl(request: Request, path: Path) -> bool:
    """Return whether a body is what ``curl --data`` makes of an image: without line breaks and zeros, as none is."""
    if request.headers.get("content-type") != "application/x-www-form-urlencoded":
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:  # what is wrong with the image is said all the same
        return False
    return bool(head) and not any(byte in head for byte in (b"\r", b"\n", b"\0"))


async def drain(request: Request) -> None:
    """Read the rest of the body and forget it: many clients look for an answer only when they have sent all."""
    with suppress(HTTPException), anyio.move_on_after(_DRAIN_S):  # who sends more, or slowly, may miss the answer
        while not request.scope.get(_WHOLE):
            await request.receive()

"""What callers are answered: a file, or one sentence of what is wrong and one of what to do."""

import json
import logging
from typing import Any

import anyio
from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from drc_deploy.errors import DrcDeployError, ImageError, OutputError, UsageError
from drc_deploy.runtime.service.bodies import drain
from drc_deploy.runtime.service.parameters import Parameters, for_callers, with_parameters
from drc_deploy.runtime.service.service import Place
from drc_deploy.runtime.service.work import Made
from drc_deploy.runtime.stopping import StoppedError

_log = logging.getLogger(__name__)


class ResultResponse(FileResponse):
    """A result on its way; its place is left when it has arrived, or the time is over."""

    def __init__(self, made: Made, place: Place, seconds: float) -> None:
        """Take the result of ``place``."""
        notes = {"X-Notes": json.dumps(made.notes)} if made.notes else {}
        super().__init__(made.path, headers={"X-Size": f"{made.width}x{made.height}", **notes})
        self._place, self._seconds = place, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the specification of ASGI."""
        try:
            with anyio.move_on_after(self._seconds):
                await super().__call__(scope, receive, send)
        finally:
            self._place.leave()


def refusal(status: int, error: str, hint: str, headers: dict[str, str] | None = None) -> HTTPException:
    """Return the exception that answers with ``status`` and two sentences."""
    return HTTPException(status, {"error": error, "hint": hint}, headers)


def refusal_of(error: DrcDeployError) -> HTTPException:
    """Return the exception that answers with an error."""
    return refusal(_status(error), with_parameters(error.message), for_callers(error.hint))


def refusal_of_failure(error: Exception) -> HTTPException:
    """Return the exception that answers with what went wrong around a request."""
    if isinstance(error, ClientDisconnect):
        return refusal(400, "the image did not arrive whole.", "Send it again.")
    if isinstance(error, TimeoutError):
        return refusal(408, "the image did not arrive in time.", "Send it faster.")
    if isinstance(error, MemoryError):
        return refusal(503, "there is not enough memory now.", "Send it later, or a smaller image.")
    if isinstance(error, OSError):
        return refusal(507, f"this service cannot keep the image: {error.strerror}.", "Ask who runs it for space.")
    _log.exception("A request failed.", exc_info=error)
    return refusal(500, "this is a fault of drc-deploy.", "Report it with the log of the service.")


def _status(error: DrcDeployError) -> int:
    if isinstance(error, StoppedError):
        return 504
    if isinstance(error, OutputError) and isinstance(error.__cause__, OSError):
        return 507
    return 400 if isinstance(error, UsageError | ImageError | OutputError) else 500


async def answer_refusal(request: Request, refused: Any) -> JSONResponse:
    """Answer an HTTPException, when the body was read or did not come: many clients look for an answer only then."""
    if refused.status_code != 408:
        await drain(request)
    detail = refused.detail
    if not isinstance(detail, dict):  # of the framework, such as for an address that is not there
        detail = {"error": f"{detail.rstrip('.')}.", "hint": "See /docs for what there is."}
    return JSONResponse(detail, refused.status_code, refused.headers)


def ending_answer() -> JSONResponse:
    """Return the answer to what is under way when the service ends."""
    return JSONResponse({"error": "this service ends.", "hint": "Ask again later."}, 503)


async def answer_wrong_parameter(request: Request, error: Any) -> JSONResponse:
    """Answer a parameter that is not as /docs says."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"][1:]))
    if first["type"] == "extra_forbidden":
        hint = f"There are: {', '.join(Parameters.model_fields)}."
        return await answer_refusal(request, refusal(422, f"there is no parameter {where}.", hint))
    if first["type"] == "string_pattern_mismatch":
        return await answer_refusal(request, refusal(422, f"{where} is no frame.", "Send one such as 1920x1080."))
    return await answer_refusal(request, refusal(422, f"{where}: {first['msg']}.", "See /docs for what it takes."))

"""The service as an application for HTTP: its addresses."""

import hmac
import re
import secrets
from base64 import b64encode
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from importlib.resources import files
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from drc_deploy import __version__
from drc_deploy.errors import DrcDeployError, ImageError
from drc_deploy.runtime.service.answers import (
    ResultResponse,
    answer_refusal,
    answer_wrong_parameter,
    refusal,
    refusal_of,
    refusal_of_failure,
)
from drc_deploy.runtime.service.bodies import BodyLimit, save_body, was_changed_by_curl
from drc_deploy.runtime.service.counted import Counted, Log
from drc_deploy.runtime.service.engines import ServedEngine
from drc_deploy.runtime.service.parameters import Parameters
from drc_deploy.runtime.service.service import Place, Service
from drc_deploy.runtime.service.work import nameless

_PAGE_POLICY = (
    "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"type": "object", "properties": {"image": _BINARY["schema"]}, "required": ["image"]}
_BODY = {"required": True, "content": {"image/*": _BINARY, "multipart/form-data": {"schema": _FORM}}}


def make_app(service: Service, token: str | None = None, log: Log | None = None) -> FastAPI:
    """Return the application.

    Args:
        service: what does the work.
        token: callers must send it; None: nothing.
        log: is given a line for each request when it is over; None: nobody wants them.
    """
    app = FastAPIOffline(title="drc-deploy", version=__version__, redoc_url=None)
    app.add_middleware(Counted, measures=service.measures, log=log)
    app.add_middleware(BodyLimit, most=service.limits.body_bytes)
    app.add_exception_handler(HTTPException, answer_refusal)
    app.add_exception_handler(RequestValidationError, answer_wrong_parameter)
    app.include_router(_open_addresses(service))
    app.include_router(_kept_addresses(service), dependencies=[Depends(_check_token(token))] if token else [])

    return app


def _open_addresses(service: Service) -> APIRouter:
    """Return what needs no token: the page, and what asks whether the service is well."""
    router = APIRouter()
    page = files("drc_deploy.runtime.service").joinpath("page.html").read_text("utf-8")
    headers = {"Content-Security-Policy": _policy(page), "Referrer-Policy": "no-referrer"}

    @router.head("/", include_in_schema=False)
    @router.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    @router.head("/healthz", include_in_schema=False)  # what balancers ask
    @router.get("/healthz", summary="Whether the process runs.")
    async def healthy() -> dict[str, str]:
        return {"status": "ok"}

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", summary="Whether it takes requests now.")
    async def ready() -> JSONResponse:
        state = (
            "ending" if service.ending else "busy" if all(map(service.is_full, service.engines.values())) else "ready"
        )
        return JSONResponse({"status": state}, 200 if state == "ready" else 503)

    return router


def _policy(page: str) -> str:
    """Return what browsers let the page do: run its own script and style, which their hashes name, and ask here."""
    inline = re.findall(r"<(script|style)>(.*?)</\1>", page, re.DOTALL)
    return _PAGE_POLICY.format(**{tag: b64encode(sha256(text.encode()).digest()).decode() for tag, text in inline})


def _kept_addresses(service: Service) -> APIRouter:
    """Return what needs the token."""
    router = APIRouter()

    @router.get("/metrics", summary="Figures for Prometheus.")
    async def metrics() -> Response:
        return Response(service.measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/v1/models", summary="The networks, the default first.")
    async def models() -> list[dict[str, Any]]:
        return [_about(engine) for engine in service.engines.values()]

    @router.get("/v1/progress/{name}", summary="How the request with this X-Request-Id is getting on.")
    async def progress(name: str) -> dict[str, Any]:
        watched = service.watched(name)
        if watched is None:
            raise refusal(404, "no request of that name is under way.", "It has ended, or was never taken.")
        watch, earlier = watched
        return {"stage": watch.stage, "earlier": earlier, "tiles": watch.tiles, "done": watch.done}

    @router.post(
        "/v1/upscale",
        summary="Upscale an image.",
        response_class=FileResponse,
        responses={200: {"content": {"image/*": _BINARY}}},
        openapi_extra={"requestBody": _BODY},
    )
    async def upscale(request: Request, parameters: Annotated[Parameters, Query()]) -> Response:
        return await _upscaled(service, request, parameters)

    return router


async def _upscaled(service: Service, request: Request, parameters: Parameters) -> Response:
    engine = _chosen(service, parameters.model)
    try:
        wanted = parameters.wanted(engine.info.scale)
    except DrcDeployError as error:
        raise refusal_of(error) from error
    name = request.headers.get("x-request-id") or secrets.token_hex(16)
    if service.ending or service.is_full(engine) or service.watched(name):
        headers = {"Retry-After": str(service.retry_after)}
        raise refusal(503, "this service is busy.", "Ask again later.", headers)
    seconds, place = service.limits.seconds, None
    try:
        place = service.admit(name, engine)
        with anyio.fail_after(seconds):
            await save_body(request, place.folder / "image")
        made = await place.compute(wanted, lambda: _left(request))
        return ResultResponse(made, place, seconds)
    except BaseException as error:
        try:
            refused = _refused(error, request, place)  # before its files go
        finally:
            if place:
                place.leave()
        if refused:
            raise refused from error
        raise


def _refused(error: BaseException, request: Request, place: Place | None) -> HTTPException | None:
    """Return what answers with an error; None where that is itself an answer, or ends more than this request."""
    if place and isinstance(error, ImageError) and was_changed_by_curl(request, place.folder / "image"):
        return refusal(400, "bytes of the image are missing.", "Give curl --data-binary: --data leaves some out.")
    if place and isinstance(error, DrcDeployError):
        return refusal_of(nameless(error, place.folder, place.engine.path.parent))
    if isinstance(error, Exception) and not isinstance(error, HTTPException):
        return refusal_of_failure(error)
    return None


async def _left(request: Request) -> None:
    """Wait until the caller has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _chosen(service: Service, model: str | None) -> ServedEngine:
    if model is None:
        return next(iter(service.engines.values()))
    if model not in service.engines:
        raise refusal(404, "there is no such network here.", f"There are: {', '.join(service.engines)}.")
    return service.engines[model]


def _about(engine: ServedEngine) -> dict[str, Any]:
    facts = asdict(engine.info)
    kept = ("model", "scale", "precision", "params", "tile", "max_batch")
    return {"name": engine.name, "device": engine.device, **{name: facts[name] for name in kept}}


def _check_token(token: str) -> Callable[[Request], None]:
    expected = sha256(token.encode()).digest()  # of one length, whatever is sent

    def check(request: Request) -> None:
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(sha256(sent.strip().encode()).digest(), expected)
        if scheme.lower() != "bearer" or not right:
            headers = {"WWW-Authenticate": "Bearer"}
            raise refusal(401, "the token is missing or wrong.", "Send `Authorization: Bearer TOKEN`.", headers)

    return check

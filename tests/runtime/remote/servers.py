"""Storage on this machine: an S3 by moto, and a web server that does what it should not."""

import io
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from tests.patience import PATIENCE_S

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def s3_server() -> Iterator["S3"]:
    """Serve an empty S3."""
    server = S3()
    with _serving(server.listener):
        yield server


@contextmanager
def _serving(listener: Any) -> Iterator[None]:
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


class S3:
    """An S3.

    Attributes:
        address: For ``AWS_ENDPOINT_URL``.
        putting: Set as soon as a put has begun.
        failures: How many requests it answers with 503 from now on.
        lost: How many puts it takes in, and answers with 503, from now on.
        exact: Whether its listings, and they only, know parts of a second, as those of MinIO, Ceph and R2.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._moto = DomainDispatcherApplication(create_backend_app)
        self.listener = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.address = f"http://127.0.0.1:{self.listener.server_port}"
        self.putting, self._may_put, self.failures = threading.Event(), threading.Event(), 0
        self._may_put.set()
        self._changing, self._puts = threading.Condition(), 0
        self.lost, self.exact = 0, False

    def environment(self) -> dict[str, str]:
        """Return where a backend looks for its credentials, and for this server."""
        credentials = {
            "AWS_ACCESS_KEY_ID": "a-key",
            "AWS_SECRET_ACCESS_KEY": "s3cret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        return {**credentials, "AWS_ENDPOINT_URL": self.address, "AWS_CONFIG_FILE": "/dev/null"}

    @contextmanager
    def puts_held(self) -> Iterator[Callable[[], None]]:
        """Take no put in during the block, or until what it yields is called; those that have begun end with it."""
        self.putting.clear()
        self._may_put.clear()
        try:
            yield self._may_put.set
        finally:
            self._may_put.set()
        with self._changing:
            assert self._changing.wait_for(lambda: not self._puts, PATIENCE_S)

    @contextmanager
    def _put(self) -> Iterator[None]:
        with self._changing:
            self._puts += 1
        self.putting.set()
        try:
            self._may_put.wait(PATIENCE_S)
            yield
        finally:
            with self._changing:
                self._puts -= 1
                self._changing.notify_all()

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        request = Request(environ)
        if self.failures:
            self.failures -= 1
            return Response(status=503)(environ, start)
        if request.method == "PUT":
            with self._put():
                return self._taken(request)(environ, start)
        response = Response.from_app(self._moto, environ)
        if request.args.get("list-type") and self.exact:
            response.set_data(re.sub(rb"\.\d+Z</LastModified>", b".789Z</LastModified>", response.get_data()))
        return response(environ, start)

    def _taken(self, request: Request) -> Response:
        try:
            request.environ["wsgi.input"] = io.BytesIO(request.get_data())  # as S3 does, take no body that ends early
        except Exception:
            return Response(status=400)
        response = Response.from_app(self._moto, request.environ)
        if self.lost:
            self.lost -= 1
            return Response(status=503)
        return response


@contextmanager
def web_server(answers: Mapping[str, Answer]) -> Iterator[tuple[str, Counter[str]]]:
    """Serve what ``answers`` do, by path; yield the address, and how often each path was asked for."""
    asked: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked[path] += 1
            answers[path](self)

        def do_HEAD(self) -> None:
            self.send_error(405)

        def log_message(self, *_: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    with _serving(listener):
        yield f"http://127.0.0.1:{listener.server_port}", asked


def answer(content: bytes, *, status: int = 200, length: int | None = None) -> Answer:
    """Return what answers so; ``length`` is what it says, None the truth."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return send


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Send without saying how much, and without end."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(1 << 20))
    except OSError:
        handler.close_connection = True


def silent(handler: BaseHTTPRequestHandler) -> None:
    """Promise something, and send nothing."""
    answer(b"", length=100)(handler)
    time.sleep(2)


def trickling(handler: BaseHTTPRequestHandler) -> None:
    """Send a byte now and then."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"a")
            time.sleep(0.05)
    except OSError:
        handler.close_connection = True


def for_those_with(authorization: str, right: Answer) -> Answer:
    """Return what answers right to who shows a password."""
    return lambda handler: (right if handler.headers["Authorization"] == authorization else answer(b"", status=401))(
        handler
    )


def at_first(times: int, wrong: Answer, right: Answer) -> Answer:
    """Return what answers wrong a few times, and right then."""
    left = [wrong] * times

    def send(handler: BaseHTTPRequestHandler) -> None:
        (left.pop() if left else right)(handler)

    return send

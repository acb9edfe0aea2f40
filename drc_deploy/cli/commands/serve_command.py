"""``drc-deploy serve``."""

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drc_deploy.cli import options
from drc_deploy.errors import UsageError
from drc_deploy.input_files import read_text
from drc_deploy.locate import find_engine
from drc_deploy.printing import say

if TYPE_CHECKING:
    import socket


@click.command(short_help="Upscale images over HTTP, for many callers.")
@click.argument("engines", nargs=-1, metavar="[ENGINE]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of one line that callers must send as `Authorization: Bearer ...`.",
)
@click.option(
    "--queue", type=click.IntRange(0), default=64, show_default=True, help="Requests that may wait for each network."
)
@click.option(
    "--max-pixels", type=click.IntRange(1), default=16_000_000, show_default=True, help="Refuse larger images."
)
@click.option(
    "--max-body", type=options.ByteSize(), default="64MiB", metavar="SIZE", show_default=True, help="Of a request."
)
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    default=300,
    show_default=True,
    help="Seconds for each of receiving an image, making its result, and sending that.",
)
@click.option("--access-log", is_flag=True, help="Print a line for each request on standard error.")
@options.threads_option
@options.workdir_option
def command(
    engines: tuple[str, ...],
    host: str,
    port: int,
    token_file: Path | None,
    queue: int,
    max_pixels: int,
    max_body: int,
    time_limit: float,
    access_log: bool,
    threads: int | None,
    workdir: Path,
) -> None:
    """Upscale images over HTTP. ENGINE is what `upscale --engine` takes; requests name it by its file's stem.

    POST /v1/upscale takes an image as the body, or as the field `image` of a form, and returns an image. The page at /
    does that in a browser. /docs describes all addresses, /metrics is for Prometheus.

    Tiles of all requests are computed together. Who comes when the queue is full gets 503 and a time to come back.
    Ctrl-C or SIGTERM finishes what is under way.
    """
    from drc_deploy.images.reading import limit_pixels
    from drc_deploy.runtime.service.app import make_app
    from drc_deploy.runtime.service.lines import log_lines
    from drc_deploy.runtime.service.listening import listen, serve
    from drc_deploy.runtime.service.service import Limits, Service, open_engines

    token = _read_token(token_file) if token_file else None
    limit_pixels(max_pixels)
    with listen(host, port) as listener:
        paths = [find_engine(engine, workdir) for engine in engines] or [_default(workdir)]
        service = Service(open_engines(paths, threads), Limits(queue, max_body, time_limit))
        try:
            for engine in service.engines.values():
                count = f"{engine.threads} request{'s' if engine.threads > 1 else ''}"
                say(f"{engine.name} on {engine.device}: {count} at a time, {queue} more may wait.", err=True)
            _announce(listener, token)
            with log_lines() as lines:
                serve(make_app(service, token, lines.put if access_log else None), service, listener)
        finally:
            service.close()


def _default(workdir: Path) -> Path:
    from drc_deploy.cli.commands.upscale_command import choose_engine

    path, why = choose_engine(workdir, "ENGINE")
    say(why, err=True)
    return path


def _read_token(path: Path) -> str:
    """Return the token of a file.

    Raises:
        UsageError: it is no line of text.
    """
    try:
        token = read_text(path, "ascii").strip()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Give a file with a token.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no token.", "Put one line of letters and digits there.") from error
    if not token or len(token.split()) != 1:
        raise UsageError(f"{path} holds no token.", "Put one line of letters and digits there.")
    return token


def _announce(listener: "socket.socket", token: str | None) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    if not ipaddress.ip_address(host).is_loopback:
        who = "who has the token" if token else "everyone there, for no --token-file was given"
        say(f"Warning: {host} can be reached from other machines; this serves {who}.", err=True)
    say(f"Serving at http://{shown}:{port}/ - stop it with Ctrl-C.", err=True)

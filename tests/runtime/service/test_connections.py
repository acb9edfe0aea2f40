"""Connections that nothing comes through, or whose answer nobody reads."""

import io
import select
import socket
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from drc_deploy.runtime.service import connections
from drc_deploy.runtime.service.service import Limits
from tests.runtime.networks import write_nearest
from tests.runtime.service.running import running


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "quick.onnx"
    write_nearest(path)
    return path


def connected(client: httpx.Client, *, room: int | None = None) -> socket.socket:
    """Return a connection of our own, which takes so many bytes before they are read."""
    connection = socket.socket()
    connection.settimeout(30)
    if room:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    connection.connect((client.base_url.host, client.base_url.port))
    return connection


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /heal"])
def test_who_never_sends_a_whole_head_is_left(sent: bytes, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.2)
    with running([engine]) as (_, client), connected(client) as connection:
        connection.sendall(sent)
        while connection.recv(1000):
            pass


def test_a_head_in_many_pieces_gets_no_more_time(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.2)
    with running([engine]) as (_, client), connected(client) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        with suppress(ConnectionError):  # it may be cut in the middle of a piece
            while not select.select([connection], [], [], 0.02)[0]:
                connection.sendall(b"X-More: 1\r\n")
            assert connection.recv(1000) == b""  # and not that the head is too long


def was_reset(connection: socket.socket) -> bool:
    """Return whether it is within half a minute, without reading anything."""
    poll = select.poll()
    poll.register(connection, 0)
    events = poll.poll(30_000)
    return bool(events and events[0][1] & (select.POLLERR | select.POLLHUP))


def test_who_does_not_read_an_image_is_cut_off(engine: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((900, 900), np.uint8)).save(stream, "PNG")
    body = stream.getvalue()
    head = b"POST /v1/upscale?format=bmp HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with running([engine], Limits(seconds=2)) as (_, client), connected(client, room=2048) as connection:
        connection.sendall(head + body)
        assert was_reset(connection)


@pytest.mark.parametrize("end", [b"Connection: close\r\n", b""])
def test_who_does_not_read_what_the_server_has_done_with_is_cut_off(
    end: bytes, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.2)
    limits = Limits(seconds=0.5)
    with running([engine], limits, unsent=2048) as (_, client), connected(client, room=2048) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + end + b"\r\n")
        assert was_reset(connection)

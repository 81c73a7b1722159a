"""Connections to the daemon on which a test writes what it likes."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

from .hgcid import Daemon
from .patience import LONG

HEAD = b"HTTP/1.1 "


class Raw:
    """A connection to the socket, or to the port."""

    def __init__(self, daemon: Daemon, tcp: bool = False) -> None:
        if tcp:
            host, port = str(daemon.sections["web"]["listen"]).rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)), timeout=LONG)
        else:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(LONG)
            self.socket.connect(str(daemon.socket))

    def send(self, data: bytes) -> bool:
        """Sends it all; false when the other end has had enough of it."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def rest(self) -> bytes:
        """All that comes until the other end closes."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while part := self.socket.recv(65536):
                data += part
        return data

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the answer that comes next. 0: it was closed without one."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while b"\r\n\r\n" not in data:
                part = self.socket.recv(65536)
                if not part:
                    break
                data += part
            head, _, body = data.partition(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    while len(body) < int(line.split(b":")[1]):
                        part = self.socket.recv(65536)
                        if not part:
                            break
                        body += part
        if not data.startswith(HEAD):
            return 0, data
        return int(data[len(HEAD) :][:3]), body

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def many(daemon: Daemon, count: int, tcp: bool = False) -> Iterator[list[Raw]]:
    """So many connections, until the end of the block."""
    made: list[Raw] = []
    try:
        for _ in range(count):
            made.append(Raw(daemon, tcp))
        yield made
    finally:
        for one in made:
            one.close()


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A request with a body, whose length may be a lie."""
    lines = [f"POST {path} HTTP/1.1", "host: hgcid", "content-type: application/json"]
    lines += [f"content-length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def get(path: str, *headers: str) -> bytes:
    """A request without a body."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: hgcid", *headers, "", ""]).encode()


def error_of(body: bytes) -> str:
    """What an answer says is wrong."""
    problem: dict[str, Any] = json.loads(body)
    return str(problem["error"])

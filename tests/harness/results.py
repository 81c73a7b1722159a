"""What is in a results log, read without any of our code: docs/results-log.md is enough."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

HEADER = 1536
BUILD = 3


def unstuffed(stuffed: bytes) -> bytes:
    """The body of a frame: COBS undone."""
    body = bytearray()
    at = 0
    while at < len(stuffed):
        code = stuffed[at]
        body += stuffed[at + 1 : at + code]
        at += code
        if code < 0xFF and at < len(stuffed):
            body.append(0)
    return bytes(body)


def number(payload: bytes, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = shift = 0
    while True:
        byte = payload[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def ends_of_builds(log: Path) -> Iterator[tuple[str, int]]:
    """Every record of the end of a build: the changeset, and the build's number."""
    frames = log.read_bytes()[HEADER:].split(b"\0")
    for frame in frames:
        body = unstuffed(frame)
        if len(body) > 58 and body[0] == BUILD:
            payload = body[18:-20]
            _, after_push = number(payload, 20)
            yield payload[:20].hex(), number(payload, after_push)[0]

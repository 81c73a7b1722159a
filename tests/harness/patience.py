"""Waiting for what comes at its own time.

A deadline here is no promise of the product: it only ends a test that would hang, so it is far
longer than a slow machine needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

LONG = 90.0
T = TypeVar("T")


def eventually(
    look: Callable[[], T | None], what: str = "", seconds: float = LONG, pause: float = 0.02
) -> T:
    """Returns what `look` returns as soon as that is true; fails with `what` when it never is."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain for {what or look}: {found!r}")
        time.sleep(pause)

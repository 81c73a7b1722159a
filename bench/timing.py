# timing.py - tells how long hooks took, and how long hgci took to load
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""A Mercurial extension for the benchmarks.

It wraps what hg itself calls, so that hooks in the process and hooks that are programs are measured
at the same place. Appends `NAME START END` to the file `$HGCI_BENCH_TIMES`, by the clock that all
processes of a machine share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mercurial import extensions, hook

calls: list[tuple[str, float, float]] = []


def timed(name: Callable[[tuple[Any, ...]], str], function: Callable[..., Any]) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        label = name(args).replace(" ", "_")
        start = time.monotonic()
        try:
            return function(*args, **kwargs)
        finally:
            calls.append((label, start, time.monotonic()))

    return wrapper


# pythonhook and _exthook: ui, repo, kind of hook, its name, …
hook.pythonhook = timed(lambda args: args[3].decode(), hook.pythonhook)
hook._exthook = timed(lambda args: args[3].decode(), hook._exthook)
# load: ui, name of the extension, …
extensions.load = timed(lambda args: "load-" + args[1].decode(), extensions.load)


def hgci_loaded(loaded: bool) -> None:
    if not loaded:
        return
    from hgext3rd.hgci import hook as ours

    ours.collect = timed(lambda args: "collect", ours.collect)


def uisetup(ui: Any) -> None:
    ui.atexit(write)
    extensions.afterloaded(b"hgci", hgci_loaded)


def write() -> None:
    if path := os.environ.get("HGCI_BENCH_TIMES"):
        lines = [f"{name} {start:.7f} {end:.7f}\n" for name, start, end in calls]
        Path(path).write_text("".join(lines))

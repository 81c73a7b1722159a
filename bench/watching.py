"""Learning of a final result as soon as it is there: inotify on the folder of the results log, and
the lookup that `hg ci-status` does. Nothing is asked of the daemon, and nobody polls."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from sampling import Unmeasurable

from hgext3rd.hgci import _native

IN_MODIFY, IN_CREATE, IN_MOVED_TO = 0x2, 0x100, 0x80
EVENT = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Changes in a folder."""

    def __init__(self, folder: Path) -> None:
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        wanted = IN_MODIFY | IN_CREATE | IN_MOVED_TO
        if self._fd < 0 or _libc.inotify_add_watch(self._fd, os.fsencode(folder), wanted) < 0:
            raise Unmeasurable(f"inotify of {folder}: {os.strerror(ctypes.get_errno())}")

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def changed(self, seconds: float) -> list[str]:
        """Names of files that changed, as soon as there are some; none when time is over."""
        if not select.select([self._fd], [], [], max(0.0, seconds))[0]:
            return []
        data, names, at = os.read(self._fd, 1 << 16), [], 0
        while at < len(data):
            _, _, _, length = EVENT.unpack_from(data, at)
            at += EVENT.size
            names.append(os.fsdecode(data[at : at + length].rstrip(b"\0")))
            at += length
        return names


class Results:
    """The results log of a repository, which must have one already."""

    def __init__(self, repo: Path) -> None:
        self._repo = os.fsencode(repo)
        self._watch = Watch(repo / ".hg" / "hgci")

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.__exit__(kind, error, trace)

    def build(self, node: str) -> dict[str, Any] | None:
        """The newest build of a changeset that is in the log."""
        key = bytes.fromhex(node)
        return _native.Statuses.read(self._repo, None, [key], False, None).build(key)

    def is_final(self, node: str) -> bool:
        keys = [bytes.fromhex(node)]
        return _native.Statuses.read(self._repo, None, keys, False, None).final_for(keys)

    def final(self, node: str, seconds: float = 60, pause: float = 0.0) -> float:
        """When the build of a changeset was final, by `time.monotonic`. With a pause, looks no
        more often than that: each look takes time from whoever works."""
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if self.is_final(node):
                return now
            if now > until:
                raise Unmeasurable(f"no final result of {node[:12]} after {seconds:.0f} s")
            time.sleep(pause)
            self._watch.changed(until - time.monotonic())

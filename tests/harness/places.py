"""Folders for demo and benchmarks, in build/, on a real disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .leftovers import processes_of
from .programs import ROOT, SEARCH_PATH


@contextlib.contextmanager
def place(name: str) -> Iterator[Path]:
    """A folder in build/ for everything; afterwards it is gone, and all that was started there."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=build))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for number, _ in list(processes_of(folder)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def short_socket(folder: Path) -> Iterator[Path]:
    """A path for the socket that is short enough: a Unix socket's has 107 bytes at most."""
    if len(os.fsencode(folder)) < 90:
        yield folder / "hgcid.sock"
        return
    with tempfile.TemporaryDirectory(prefix="hgci-") as other:
        yield Path(other) / "hgcid.sock"


def sandbox_works() -> bool:
    """Whether bubblewrap is there and the kernel lets it."""
    command = ["bwrap", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    env = {**os.environ, "PATH": SEARCH_PATH}
    try:
        return subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False

"""Fixtures for every black-box test: a room, people, a served repository, a daemon.

The room is a folder with a short name, since the path of a Unix socket may have 107 bytes, that
other accounts may enter, since jobs and forgers have accounts of their own. At the end of a test
nothing may be left of it: no process, no attempt's folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .hgcid import Daemon, Pool, Repo, Value
from .leftovers import processes_of
from .patience import eventually
from .people import Clone, Hg
from .serving import Served
from .smtp import Smtp

# A pipeline that passes at once.
PASSING = 'version = 1\n\n[job.test]\nrun = "true"\n'


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder for one test; afterwards nothing that names it may be alive."""
    folder = Path(tempfile.mkdtemp(prefix="hgci-t", dir="/tmp")).resolve()
    folder.chmod(0o755)
    try:
        yield folder
        left = dict(processes_of(folder))
        try:
            # What was just asked to end gets a moment.
            eventually(lambda: not dict(processes_of(folder)))
        except AssertionError:
            left = dict(processes_of(folder))
            pytest.fail(f"processes were left behind: {left}")
    finally:
        for number, _ in list(processes_of(folder)):
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def admin(room: Path) -> Hg:
    """Whose repositories are served."""
    return Hg(room / "srv", user="admin <admin@example.org>")


@pytest.fixture
def alice(room: Path) -> Hg:
    """Who pushes, and has the extension to ask for results."""
    hg = Hg(room / "alice")
    hg.configure("[extensions]\nhgci =\n[phases]\npublish = yes\n")
    return hg


@pytest.fixture
def served(room: Path, admin: Hg) -> Served:
    """An empty served repository, `widgets`, with the extension installed for the daemon of
    this room."""
    served = Served.create(admin, room / "srv" / "widgets")
    served.install("extension", room / "d" / "s")
    return served


MakeDaemon = Callable[..., Daemon]


@pytest.fixture
def make_daemon(room: Path) -> Iterator[MakeDaemon]:
    """Makes daemons, not yet started, and stops at the end those that run."""
    made: list[Daemon] = []

    def make(
        repos: list[Repo],
        pools: list[Pool] | None = None,
        sections: dict[str, dict[str, Value]] | None = None,
        env: dict[str, str] | None = None,
        folder: str = "d",
    ) -> Daemon:
        made.append(Daemon(room / folder, repos, pools, sections, env))
        return made[-1]

    yield make
    for daemon in made:
        if daemon.process is not None:
            let_attempts_end(daemon)
        daemon.stop()
        nothing_is_left_of_attempts(daemon)


def let_attempts_end(daemon: Daemon) -> None:
    """Gives the runners a moment: they outlive a daemon to which they could not say how they
    ended. What is left then is told after its end."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: not daemon.attempts_left(), seconds=10)


def nothing_is_left_of_attempts(daemon: Daemon) -> None:
    try:
        # A runner whose verdict was taken just now has its folder still to remove.
        eventually(lambda: not daemon.attempts_left())
    except AssertionError:
        left = daemon.attempts_left()
        pytest.fail(f"attempts left folders behind: {left}\n{daemon.log[-4000:]}")


@pytest.fixture
def daemon(make_daemon: MakeDaemon, served: Served) -> Daemon:
    """A running daemon that serves `widgets` with one pool, sandboxed, of two slots."""
    return make_daemon([Repo(served.path)]).start()


@pytest.fixture
def clone(alice: Hg, served: Served, room: Path) -> Clone:
    """Alice's clone of `widgets`, over a path."""
    return alice.clone(served.path, room / "alice" / "widgets")


@pytest.fixture
def smtp(room: Path) -> Iterator[Smtp]:
    """A mail server without login."""
    server = Smtp(room / "mail")
    server.start()
    yield server
    server.stop()

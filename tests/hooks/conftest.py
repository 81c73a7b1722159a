"""What the tests of the hooks are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pushing import Daemon, Hg, Server, make_server


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "s")
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def admin(tmp_path: Path) -> Hg:
    """The account that serves."""
    home = tmp_path / "srv"
    home.mkdir()
    hg = Hg(home)
    hg.configure("[web]\npush_ssl = no\nallow-push = *\n")
    return hg


@pytest.fixture
def alice(tmp_path: Path) -> Hg:
    """An account that pushes, and knows nothing of hgci."""
    home = tmp_path / "alice"
    home.mkdir()
    return Hg(home)


@pytest.fixture(params=["extension", "txnclose", "changegroup"])
def server(request: pytest.FixtureRequest, admin: Hg, daemon: Daemon) -> Server:
    """A served repository with each way of installation."""
    return make_server(request.param, admin, daemon)


@pytest.fixture(params=["extension", "txnclose"])
def full_server(request: pytest.FixtureRequest, admin: Hg, daemon: Daemon) -> Server:
    """The same without `changegroup`, which hears of changesets alone."""
    return make_server(request.param, admin, daemon)


@pytest.fixture
def extension(admin: Hg, daemon: Daemon) -> Server:
    return make_server("extension", admin, daemon)


@pytest.fixture
def clone(alice: Hg) -> Path:
    """Alice's repository, with one changeset that the server has not."""
    repo = alice.home / "widgets"
    alice("init", str(repo))
    alice.commit(repo, "one")
    return repo

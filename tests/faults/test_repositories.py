"""Repositories that leave the configuration, cannot be opened, or cannot be written to: what is in
flight of them ends or waits, and the others are served."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import Clone, Daemon, Hg, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import FINAL, ApiError, Pool
from harness.leftovers import runners_of
from harness.results import ends_of_builds

LONG = 'version = 1\n\n[job.long]\nrun = "sleep 1000"\n'


@pytest.fixture
def other(room: Path, admin: Hg) -> Served:
    """A second served repository."""
    other = Served.create(admin, room / "srv" / "gadgets")
    other.install("extension", room / "d" / "s")
    return other


@pytest.fixture
def other_clone(alice: Hg, other: Served, room: Path) -> Clone:
    return alice.clone(other.path, room / "alice" / "gadgets")


def status(daemon: Daemon) -> dict[str, Any]:
    done = daemon.run("status", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def in_flight(daemon: Daemon) -> tuple[int, int, int]:
    said = status(daemon)
    return said["pushes"], said["builds"], len(said["leases"])


def ended(daemon: Daemon, nodes: list[str]) -> list[dict[str, Any]]:
    """The builds of all these changesets, once they have ended."""
    rows = [daemon.status(node) or {"state": "unknown"} for node in nodes]
    return rows if all(row["state"] in FINAL for row in rows) else []


def reload(daemon: Daemon) -> None:
    daemon.write_config()
    done = daemon.run("reload")
    assert done.returncode == 0, done.stderr


def push(clone: Clone, files: dict[str, str]) -> str:
    node = clone.commit(files)
    assert "ci: push" in clone("push").said
    return node


def test_what_is_in_flight_of_a_repository_that_is_no_longer_configured_is_cancelled(
    served: Served, clone: Clone, other: Served, other_clone: Clone, make_daemon: MakeDaemon
) -> None:
    repos = [Repo(other.path, "gadgets"), Repo(served.path)]
    daemon = make_daemon(repos, [Pool(slots=1)]).start()
    nodes = [push(clone, {".hgci.toml": LONG})]
    eventually(lambda: runners_of(daemon.folder), "the runner")
    nodes.append(push(clone, {"two": "2"}))
    eventually(lambda: in_flight(daemon) == (0, 2, 1), "both builds")
    daemon.repos = repos[:1]
    reload(daemon)
    # The runner learns of it when it renews its lease.
    eventually(lambda: in_flight(daemon) == (0, 0, 0), f"the end of both: {daemon.log[-3000:]}")
    with pytest.raises(ApiError, match="not among the repositories"):
        daemon.status(nodes[0], repos[1])
    # How it ended is with the repository.
    for node in nodes:
        code, [row] = served.repo.status_of("-r", node)
        assert (code, row["state"]) == (1, "cancelled")
        assert "no longer in the configuration" in row["jobs"][0]["why"]
    assert not (served.path / ".hg" / "hgci" / "adopted").exists()
    node = push(other_clone, {".hgci.toml": PASSING})
    assert daemon.final(node)["state"] == "passed"
    daemon.repos = repos
    reload(daemon)
    # What came meanwhile is found, and what was cancelled is not begun anew.
    node = push(clone, {".hgci.toml": PASSING})
    assert daemon.final(node, repos[1])["state"] == "passed"
    assert [daemon.final(node, repos[1])["build"] for node in nodes] == [1, 2]


def test_a_start_without_a_repository_ends_what_was_in_flight_of_it(
    served: Served, clone: Clone, other: Served, make_daemon: MakeDaemon
) -> None:
    repos = [Repo(other.path, "gadgets"), Repo(served.path)]
    daemon = make_daemon(repos).start()
    assert daemon.run("drain").returncode == 0
    push(clone, {".hgci.toml": PASSING})
    eventually(lambda: in_flight(daemon) == (0, 1, 0), "the build")
    daemon.stop()
    daemon.repos = repos[:1]
    daemon.start()
    eventually(lambda: in_flight(daemon) == (0, 0, 0), f"the end of it: {daemon.log[-3000:]}")
    assert "results are not written" in daemon.log
    assert '"repo":"widgets"' in daemon.log


def test_what_is_in_flight_of_a_repository_that_cannot_be_opened_waits_for_it(
    served: Served, clone: Clone, other: Served, other_clone: Clone, make_daemon: MakeDaemon
) -> None:
    repos = [Repo(other.path, "gadgets"), Repo(served.path)]
    daemon = make_daemon(repos).start()
    assert daemon.run("drain").returncode == 0
    node = push(clone, {".hgci.toml": PASSING})
    eventually(lambda: in_flight(daemon) == (0, 1, 0), "the build")
    daemon.stop()
    away = served.path.with_name("away")
    served.path.rename(away)
    daemon.start()
    assert str(served.path) in daemon.log
    assert "this repository is not served" in daemon.log
    first = push(other_clone, {".hgci.toml": PASSING})
    assert daemon.final(first)["state"] == "passed"
    away.rename(served.path)
    reload(daemon)
    row = daemon.final(node, repos[1])
    assert (row["state"], row["build"]) == ("passed", 1)


FOUR = "version = 1\n" + "".join(f'\n[job.{name}]\nrun = "true"\n' for name in "abcd")


def in_its_place(folder: Path) -> None:
    (folder / "results").mkdir()


def read_only(folder: Path) -> None:
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)


def writable(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, 0, 0)
    folder.chmod(0o755)
    if (folder / "results").is_dir():
        (folder / "results").rmdir()


@pytest.mark.parametrize("harm", [in_its_place, read_only])
def test_a_results_log_that_cannot_be_written_holds_up_no_other_repository(
    harm: Callable[[Path], None],
    served: Served,
    clone: Clone,
    other: Served,
    other_clone: Clone,
    make_daemon: MakeDaemon,
) -> None:
    repos = [Repo(other.path, "gadgets"), Repo(served.path)]
    folder = served.path / ".hg" / "hgci"
    folder.mkdir()
    harm(folder)
    daemon = make_daemon(repos, [Pool(slots=1, isolation="none")])
    daemon.hold_to_permissions()
    daemon.start()
    bad = [push(clone, {".hgci.toml": FOUR, f"file{n}": "x"}) for n in range(3)]
    nodes = [push(other_clone, {".hgci.toml": PASSING, f"file{n}": "x"}) for n in range(3)]
    # A runner that waited for the log would hold the slot for a minute: twelve of them, for long.
    rows = eventually(lambda: ended(daemon, nodes), "all builds of the other")
    assert {row["state"] for row in rows} == {"passed"}

    def waiting(count: int) -> list[dict[str, Any]]:
        said = status(daemon)
        if said["builds"] != 3 or said["leases"] or not said["unwritten"]:
            return []
        return said["unwritten"] if said["unwritten"][0]["results"] == count else []

    # The ends of twelve jobs and of three builds.
    [row] = eventually(lambda: waiting(15), f"what waits: {status(daemon)}")
    assert row["repo"] == "widgets"
    assert str(folder) in row["why"]
    assert "results of widgets that cannot be written: 15: " in daemon.run("status").stdout
    # Whoever asks hears of them all the same, and so does the next daemon.
    if harm is read_only:
        assert {daemon.final(node, repos[1])["state"] for node in bad} == {"passed"}
    daemon.kill()
    daemon.start()
    eventually(lambda: waiting(15), f"what waits: {status(daemon)}")
    writable(folder)
    eventually(lambda: in_flight(daemon) == (0, 0, 0), f"the end of all: {daemon.log[-3000:]}")
    assert status(daemon)["unwritten"] == []
    daemon.stop()
    for repo, some in [(served, bad), (other, nodes)]:
        assert [repo.repo.status_of("-r", node)[0] for node in some] == [0, 0, 0]
        ends = [node for node, _ in ends_of_builds(repo.path / ".hg" / "hgci" / "results")]
        assert sorted(ends) == sorted(some)

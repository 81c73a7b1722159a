"""Repositories that leave the configuration, cannot be opened, or cannot be written to: what is in
flight of them ends or waits, and the others are served."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import Clone, Daemon, Hg, Repo, Served, eventually
from harness.account import give_account, needs_root
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import FINAL, ApiError, Pool
from harness.leftovers import runners_of

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


def test_a_results_log_that_cannot_be_written_holds_up_no_other_repository(
    served: Served, clone: Clone, other: Served, other_clone: Clone, make_daemon: MakeDaemon
) -> None:
    repos = [Repo(other.path, "gadgets"), Repo(served.path)]
    in_its_place = served.path / ".hg" / "hgci" / "results"
    in_its_place.mkdir(parents=True)
    daemon = make_daemon(repos, [Pool(slots=1, isolation="none")]).start()
    bad = [push(clone, {".hgci.toml": PASSING, f"file{n}": "x"}) for n in range(3)]
    nodes = [push(other_clone, {".hgci.toml": PASSING, f"file{n}": "x"}) for n in range(3)]
    rows = eventually(lambda: ended(daemon, nodes), "all builds of the other")
    assert {row["state"] for row in rows} == {"passed"}
    eventually(lambda: in_flight(daemon) == (0, 3, 0), "all runners to be let go")
    [trouble] = status(daemon)["troubles"]
    assert trouble["repo"] == "widgets"
    assert trouble["what"].startswith("results wait for their log: 6: ")
    assert str(in_its_place) in trouble["what"]
    assert f"widgets: {trouble['what']}\n" in daemon.run("status").stdout
    # They are not lost with the daemon.
    daemon.kill()
    daemon.start()
    eventually(lambda: status(daemon)["troubles"], "the trouble to be found again")
    in_its_place.rmdir()
    for node in bad:
        daemon.final(node, repos[1])
    eventually(lambda: in_flight(daemon) == (0, 0, 0), f"the end of all: {daemon.log[-3000:]}")
    assert status(daemon)["troubles"] == []
    daemon.stop()
    for repo, node in [*((served, node) for node in bad), *((other, node) for node in nodes)]:
        assert repo.repo.status_of("-r", node)[0] == 0


def gone(file: Path) -> None:
    file.rename(file.with_suffix(".away"))


def unreadable(file: Path) -> None:
    file.chmod(0o600)


@pytest.mark.parametrize("spoil", [gone, pytest.param(unreadable, marks=needs_root)])
def test_a_file_of_a_repository_that_cannot_be_read_holds_up_no_other_repository(
    spoil: Callable[[Path], None],
    served: Served,
    clone: Clone,
    other: Served,
    other_clone: Clone,
    make_daemon: MakeDaemon,
    room: Path,
) -> None:
    repos = [Repo(other.path, "gadgets"), Repo(served.path)]
    daemon = make_daemon(repos, [Pool(slots=1)])
    if spoil is unreadable:
        give_account(daemon, [served, other], room)
    daemon.start()
    assert daemon.run("drain").returncode == 0
    bad = push(clone, {".hgci.toml": PASSING, "source": "x"})
    good = push(other_clone, {".hgci.toml": PASSING})
    file = served.path / ".hg" / "store" / "data" / "source.i"
    assert file.exists()
    spoil(file)
    assert daemon.run("drain", "--undo").returncode == 0
    assert daemon.final(good, repos[0])["state"] == "passed"
    # Tried again, in case that it was the machine's, and for no longer than that.
    [job] = daemon.final(bad, repos[1])["jobs"]
    assert (job["state"], job["attempt"]) == ("errored", 3)
    assert "no source tree: " in job["why"]
    named = {gone: f"{served.path} looks corrupt: no revision", unreadable: str(file)}
    assert named[spoil] in job["why"]


@needs_root
def test_what_cannot_be_taken_in_of_a_repository_is_told_and_taken_in_later(
    served: Served, clone: Clone, make_daemon: MakeDaemon, room: Path
) -> None:
    daemon = make_daemon([Repo(served.path)])
    give_account(daemon, [served], room)
    clone.commit({".hgci.toml": PASSING})
    clone("push")
    daemon.start()
    changelog = served.path / ".hg" / "store" / "00changelog.i"
    changelog.chmod(0o600)
    node = push(clone, {"two": "2"})
    trouble = eventually(lambda: status(daemon)["troubles"], "word of it")[0]
    assert (trouble["repo"], str(changelog) in trouble["what"]) == ("widgets", True), trouble
    changelog.chmod(0o664)
    assert daemon.final(node)["state"] == "passed"
    assert status(daemon)["troubles"] == []

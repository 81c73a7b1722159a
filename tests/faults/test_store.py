"""The daemon's store is damaged, hangs, is emptied or deleted, at rest or under it: it is set aside
and rebuilt, what was lost is said, and no final result is lost or repeated."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import Clone, Daemon, Hg, Pool, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import SPOOLED
from harness.leftovers import runners_of
from harness.results import ends_of_builds

Harm = Callable[[Path], None]

# The first job ends before the store is lost, the second one does not.
SLOW = """\
version = 1

[job.first]
run = "true"

[job.second]
needs = ["first"]
run = "until test -e {go}; do sleep 0.05; done"
"""


def store_truncated(state: Path) -> None:
    data = state / "store" / "db"
    content = data.read_bytes()
    used = len(content.rstrip(b"\0"))
    data.write_bytes(content[: used * 2 // 3])


def store_flipped(state: Path) -> None:
    data = state / "store" / "db"
    content = bytearray(data.read_bytes())
    used = len(content.rstrip(b"\0"))
    dice = random.Random(used)
    for _ in range(40):
        content[dice.randrange(used)] ^= 1 << dice.randrange(8)
    data.write_bytes(content)


def data_emptied(state: Path) -> None:
    (state / "store" / "db").write_bytes(b"")


def data_deleted(state: Path) -> None:
    (state / "store" / "db").unlink()


def data_replaced(state: Path) -> None:
    (state / "store" / "db").write_bytes(random.Random(1).randbytes(200_000))


def store_emptied(state: Path) -> None:
    shutil.rmtree(state / "store")
    (state / "store").mkdir()


def store_deleted(state: Path) -> None:
    shutil.rmtree(state / "store")


def store_and_counter_deleted(state: Path) -> None:
    shutil.rmtree(state / "store")
    (state / "store.count").unlink()


def state_deleted(state: Path) -> None:
    shutil.rmtree(state)


def store_hanging(state: Path) -> None:
    """Opening it waits for ever."""
    conf = state / "store" / "conf"
    conf.unlink()
    os.mkfifo(conf)


HARMS = [
    store_truncated,
    store_flipped,
    data_emptied,
    data_deleted,
    data_replaced,
    store_emptied,
    store_deleted,
    store_and_counter_deleted,
    state_deleted,
    store_hanging,
]


def push(clone: Clone, files: dict[str, str]) -> str:
    node = clone.commit(files)
    assert "ci: " in clone("push").said
    return node


def status(daemon: Daemon) -> dict[str, Any]:
    done = daemon.run("status", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_a_lost_store_is_rebuilt_and_no_final_result_is_lost_or_repeated(
    harm: Harm, served: Served, clone: Clone, make_daemon: MakeDaemon, room: Path
) -> None:
    log = served.path / ".hg" / "hgci" / "results"
    before_ci = clone.commit({"old": "history"})
    clone("push", "--config=extensions.hgci=!")
    daemon = make_daemon([Repo(served.path)], [Pool(slots=2, isolation="none")]).start()
    done = [push(clone, {".hgci.toml": PASSING, name: name}) for name in ("one", "two", "three")]
    for node in done:
        assert daemon.final(node)["state"] == "passed"
    clone("remove", ".hgci.toml")
    no_pipeline = clone.commit({"five": "5"})
    clone("push")
    go = room / "go"
    # Each is the parent of the next: none but the last is a head when the store is lost.
    flying = [push(clone, {".hgci.toml": SLOW.format(go=go), "n": str(n)}) for n in range(4)]
    eventually(lambda: len(runners_of(daemon.folder)) == 2, "two runners")
    eventually(lambda: len(status(daemon)["leases"]) == 2, "two attempts")
    before = {node: served.repo.status_of("-r", node) for node in done}
    highest = max(daemon.status(node)["build"] for node in flying)
    daemon.kill()
    harm(daemon.state)
    go.touch()
    # In the spool, whatever the store has forgotten.
    late = push(clone, {"late": "1"})
    daemon.start()
    after = push(clone, {"after": "1"})
    rows = {node: daemon.final(node) for node in [*flying, late, after]}
    assert {row["state"] for row in rows.values()} == {"passed"}
    said = status(daemon)["losses"]
    if harm not in (store_truncated, store_flipped):
        # Those may leave something, or all of it.
        assert any("4 are made anew" in loss["what"] for loss in said), said
        assert min(row["build"] for row in rows.values()) > highest
    if any(row["build"] > highest for row in [rows[node] for node in flying]):
        assert any("made anew" in loss["what"] for loss in said), said
    assert all(loss["what"] in daemon.run("status").stdout for loss in said)
    eventually(lambda: status(daemon)["builds"] == 0, "the end of all")
    daemon.stop()
    # No final result was lost, and nothing was built twice.
    assert {node: served.repo.status_of("-r", node) for node in done} == before
    ends = Counter(node for node, _ in ends_of_builds(log))
    assert ends == dict.fromkeys([*done, *flying, late, after], 1)
    assert before_ci not in ends
    assert no_pipeline not in ends
    numbers = [build for _, build in ends_of_builds(log)]
    assert len(set(numbers)) == len(numbers)


def test_what_was_lost_is_said_by_the_next_daemon_too(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    node = push(clone, {".hgci.toml": PASSING})
    assert daemon.final(node)["state"] == "passed"
    daemon.stop()
    store_deleted(daemon.state)
    daemon.start()
    said = status(daemon)["losses"]
    assert any("is gone" in loss["what"] for loss in said), said
    assert all(loss["what"] in daemon.log for loss in said)
    daemon.stop()
    daemon.start()
    assert status(daemon)["losses"] == said
    assert daemon.final(push(clone, {"two": "2"}))["build"] == 2


def test_an_older_store_begins_nothing_anew_that_has_ended(
    served: Served, clone: Clone, make_daemon: MakeDaemon, room: Path
) -> None:
    log = served.path / ".hg" / "hgci" / "results"
    daemon = make_daemon([Repo(served.path)], [Pool(slots=2, isolation="none")]).start()
    go = room / "go"
    waiting = f'version = 1\n[job.long]\nrun = "until test -e {go}; do sleep 0.02; done"\n'
    nodes = [push(clone, {".hgci.toml": waiting})]
    eventually(lambda: runners_of(daemon.folder), "the runner")
    eventually(lambda: (daemon.status(nodes[0]) or {}).get("state") == "running", "its start")
    daemon.stop()
    copy = room / "copy"
    shutil.copytree(daemon.state / "store", copy)
    daemon.start()
    go.touch()
    nodes.append(push(clone, {"two": "2"}))
    builds = [daemon.final(node)["build"] for node in nodes]
    eventually(lambda: status(daemon)["builds"] == 0, "the end of all")
    daemon.stop()
    before = [served.repo.status_of("-r", node) for node in nodes]
    shutil.rmtree(daemon.state / "store")
    copy.rename(daemon.state / "store")
    daemon.start()
    said = status(daemon)["losses"]
    assert any("durable batches are lost" in loss["what"] for loss in said), said
    eventually(lambda: status(daemon)["builds"] == 0, "the end of all")
    nodes.append(push(clone, {"three": "3"}))
    builds.append(daemon.final(nodes[-1])["build"])
    daemon.stop()
    assert [served.repo.status_of("-r", node) for node in nodes[:2]] == before
    assert list(ends_of_builds(log)) == list(zip(nodes, builds))
    assert builds == [1, 2, 3]


def test_a_repository_that_was_never_served_builds_nothing_old(
    served: Served, clone: Clone, make_daemon: MakeDaemon, alice: Hg
) -> None:
    served.uninstall()
    old = [clone.commit({".hgci.toml": PASSING, "n": str(n)}) for n in range(3)]
    clone("push")
    daemon = make_daemon([Repo(served.path)]).start()
    served.install("extension", daemon.socket)
    new = push(clone, {"n": "new"})
    assert daemon.final(new)["build"] == 1
    assert [daemon.status(node) for node in old] == [None] * 3
    assert status(daemon)["losses"] == []


def test_a_state_folder_that_is_deleted_under_the_daemon_is_noticed(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    log = served.path / ".hg" / "hgci" / "results"
    nodes = [push(clone, {".hgci.toml": PASSING})]
    assert daemon.final(nodes[0])["state"] == "passed"
    eventually(lambda: status(daemon)["builds"] == 0, "the end of it")
    state_deleted(daemon.state)
    for name in ("one", "two"):
        nodes.append(clone.commit({name: name}))
        assert SPOOLED in clone("push").said
    health = daemon.ask("GET", "/healthz")
    assert health.status == 503
    assert f"{daemon.state}/lock was removed or replaced" in health.body.decode()
    assert "restart hgcid" in daemon.run("status").stdout
    # A folder of that name is not the one that it had.
    daemon.state.mkdir()
    nodes.append(clone.commit({"three": "3"}))
    assert SPOOLED in clone("push").said
    daemon.stop()
    daemon.start()
    assert {daemon.final(node)["state"] for node in (nodes[1], nodes[2], nodes[3])} == {"passed"}
    eventually(lambda: status(daemon)["builds"] == 0, "the end of all")
    daemon.stop()
    ends = list(ends_of_builds(log))
    assert Counter(node for node, _ in ends) == dict.fromkeys(nodes, 1)
    assert sorted(build for _, build in ends) == [1, 2, 3, 4]


def test_a_state_folder_that_comes_back_is_used_again(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    away = daemon.state.with_name("away")
    daemon.state.rename(away)
    node = clone.commit({".hgci.toml": PASSING})
    assert SPOOLED in clone("push").said
    away.rename(daemon.state)
    assert daemon.final(node)["state"] == "passed"
    assert status(daemon)["losses"] == []


@pytest.mark.parametrize(
    "harm",
    [data_deleted, store_emptied, store_deleted, store_and_counter_deleted],
    ids=lambda harm: harm.__name__,
)
def test_a_store_that_is_deleted_under_the_daemon_is_made_anew_and_nothing_is_built_twice(
    harm: Harm, served: Served, clone: Clone, daemon: Daemon
) -> None:
    log = served.path / ".hg" / "hgci" / "results"
    nodes = [push(clone, {".hgci.toml": PASSING})]
    assert daemon.final(nodes[0])["state"] == "passed"
    eventually(lambda: status(daemon)["builds"] == 0, "the end of it")
    harm(daemon.state)
    nodes += [push(clone, {name: name}) for name in ("one", "two")]
    assert {daemon.final(node)["state"] for node in nodes} == {"passed"}
    assert "was removed or replaced under the running hgcid" in daemon.log
    assert any("starts empty" in loss["what"] for loss in status(daemon)["losses"])
    eventually(lambda: status(daemon)["builds"] == 0, "the end of all")
    daemon.stop()
    ends = list(ends_of_builds(log))
    assert Counter(node for node, _ in ends) == dict.fromkeys(nodes, 1)
    assert sorted(build for _, build in ends) == [1, 2, 3]

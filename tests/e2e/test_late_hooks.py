"""Hooks that speak after the daemon has looked: for whom, and for which changesets."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import Clone, Daemon, Pool, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def guarded(make_daemon: MakeDaemon, served: Served) -> Daemon:
    """Trusts this account alone; its only pool takes trusted work alone."""
    repo = Repo(served.path, more={"trusted": [ME]})
    return make_daemon([repo], [Pool(more={"lanes": ["trusted"]})]).start()


def hint(daemon: Daemon, served: Served, **fields: object) -> Any:
    """What a hook of this account might say."""
    body = {"v": 1, "repo": os.path.realpath(served.path), **fields}
    return json.loads(daemon.request("POST", "/api/v1/hints", json.dumps(body).encode()))


def pushes(daemon: Daemon) -> list[Any]:
    """All pushes that were read, the oldest first."""
    rows = daemon.get("/api/v1/pushes")["items"]
    return [row for row in reversed(rows) if row["stage"] != "planning"]


def found(daemon: Daemon, served: Served, node: str) -> Any:
    """The push by which a changeset was found, after looking for it."""

    def look() -> Any:
        hint(daemon, served)
        return next((push for push in pushes(daemon) if push["last"] == node), None)

    push = eventually(look, f"the push of {node}", pause=0.2)
    assert (push["via"], push["user"]) == ("reconcile", None), push
    return push


@contextlib.contextmanager
def held_back(
    served: Served, clone: Clone, room: Path, priority: int = 100_000
) -> Iterator[list[str]]:
    """A push whose hook of ours waits for another hook until the end of the block; yields what it
    will have said then."""
    text = served.hgrc.read_text()
    go, begun = room / "go", room / "begun"
    go.unlink(missing_ok=True)
    begun.unlink(missing_ok=True)
    slow = f"touch {begun}; while [ ! -e {go} ]; do sleep 0.05; done"
    served.hgrc.write_text(
        f"{text}[hooks]\npriority.txnclose.slow = {priority}\ntxnclose.slow = {slow}\n"
    )
    pushing = clone.hg.start("push", str(served.path), cwd=clone.path)
    try:
        eventually(begun.exists, "the other hook")
        served.hgrc.write_text(text)
        said: list[str] = []
        yield said
    finally:
        go.touch()
        output, _ = pushing.communicate(timeout=90)
    said.append(output.decode())


def test_a_late_hook_gives_pusher_and_lane(
    guarded: Daemon, served: Served, clone: Clone, room: Path
) -> None:
    node = clone.commit({".hgci.toml": PASSING})
    with held_back(served, clone, room) as said:
        number = found(guarded, served, node)["push"]
        assert guarded.wait_for(node, lambda row: row["state"] == "running")
    assert f"ci: push {number} recorded" in said[0]
    assert guarded.final(node)["state"] == "passed"
    [push] = pushes(guarded)
    assert (push["push"], push["via"], push["user"]) == (number, "hook", ME)


def test_a_late_hook_names_the_pusher_of_a_push_that_is_over(
    guarded: Daemon, served: Served, clone: Clone, room: Path
) -> None:
    node = clone.commit({"no": "pipeline"})
    with held_back(served, clone, room):
        assert found(guarded, served, node)["stage"] == "done"
    [push] = pushes(guarded)
    assert (push["via"], push["user"], push["source"]) == ("hook", ME, "push")


def test_our_hook_speaks_before_slow_ones_of_others(
    guarded: Daemon, served: Served, clone: Clone, room: Path
) -> None:
    node = clone.commit({".hgci.toml": PASSING})
    with held_back(served, clone, room, priority=0):
        assert guarded.final(node)["state"] == "passed"


def test_a_late_hook_lifts_nothing_but_its_own(
    guarded: Daemon, served: Served, clone: Clone
) -> None:
    mixed = [clone.commit({".hgci.toml": PASSING})]
    hgrc = served.hgrc.read_text()
    served.uninstall()
    clone.push_unheard()
    # Another one's, on another branch, and then again one of the trusted pusher's.
    clone("update", "-q", "null")
    mixed.append(clone.commit({".hgci.toml": PASSING, "other": "1"}))
    clone.push_unheard("-f")
    clone("update", "-q", "null")
    mixed.append(clone.commit({".hgci.toml": PASSING, "third": "1"}))
    clone.push_unheard("-f")
    served.hgrc.write_text(hgrc)
    number = found(guarded, served, mixed[-1])["push"]
    said = hint(guarded, served, txid="TXN:late", first=mixed[2], last=mixed[2], source="serve")
    assert said["push"] == number
    states = [guarded.final(node)["state"] for node in mixed]
    assert states == ["skipped", "skipped", "passed"]
    [push] = pushes(guarded)
    assert push["user"] is None, "nobody pushed all of it"


def test_every_changeset_of_a_late_hook_is_lifted(
    make_daemon: MakeDaemon, served: Served, clone: Clone
) -> None:
    repo = Repo(served.path, more={"trusted": [ME], "build": "every"})
    daemon = make_daemon([repo], [Pool(more={"lanes": ["trusted"]})]).start()
    nodes = [clone.commit({".hgci.toml": PASSING}), clone.commit({"two": "2"})]
    served.uninstall()
    clone.push_unheard()
    found(daemon, served, nodes[1])
    hint(daemon, served, txid="TXN:late", first=nodes[0], last=nodes[1], source="serve")
    assert [daemon.final(node)["state"] for node in nodes] == ["passed", "passed"]


def test_who_strips_does_not_answer_for_what_the_strip_puts_back(
    guarded: Daemon, served: Served, clone: Clone
) -> None:
    base = clone.commit({"base": "1"})
    clone("push")
    hgrc = served.hgrc.read_text()
    served.uninstall()
    gone = clone.commit({"gone": "1"})
    clone("update", "-q", base)
    other = clone.commit({".hgci.toml": PASSING})
    guarded.stop()
    clone.push_unheard("-f")
    served.hgrc.write_text(hgrc)
    # The daemon has seen neither; the trusted account takes the first away, with its hooks on.
    served.repo("strip", "--config=extensions.strip=", "-r", gone)
    assert served.repo.nodes() == [base, other]
    guarded.start()
    assert guarded.final(other)["state"] == "skipped"
    assert [push["user"] for push in pushes(guarded)] == [ME, None]


def test_a_strip_makes_no_push_and_prints_nothing(
    daemon: Daemon, served: Served, clone: Clone
) -> None:
    base = clone.commit({"base": "1"})
    gone = clone.commit({"gone": "1"})
    clone("update", "-q", base)
    other = clone.commit({".hgci.toml": PASSING})
    clone("push", "-f")
    daemon.final(other)
    said = served.repo("strip", "--config=extensions.strip=", "-r", gone).said
    assert "ci:" not in said
    assert served.repo.nodes() == [base, other]
    assert len(daemon.get("/api/v1/pushes")["items"]) == 1


def test_a_hint_of_what_is_known_makes_no_push_and_has_no_line(
    daemon: Daemon, served: Served, clone: Clone
) -> None:
    node = clone.commit({".hgci.toml": PASSING})
    clone("push")
    daemon.final(node)
    nothing = {"push": None, "line": "", "more": []}
    assert hint(daemon, served, txid="TXN:again", first=node, last=node) == nothing
    assert hint(daemon, served, txid="TXN:moved", moved=True) == nothing
    assert len(daemon.get("/api/v1/pushes")["items"]) == 1


def test_one_transaction_told_twice_is_one_push(
    daemon: Daemon, served: Served, clone: Clone
) -> None:
    node = clone.commit({".hgci.toml": PASSING})
    served.uninstall()
    clone.push_unheard()
    told = {"txid": "TXN:1", "first": node, "last": node, "source": "serve"}
    first = hint(daemon, served, **told)
    daemon.final(node)
    assert hint(daemon, served, **told) == first
    assert first["push"] == 1
    assert len(daemon.get("/api/v1/pushes")["items"]) == 1

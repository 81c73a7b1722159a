"""Pushes that bring no changesets: phases, bookmarks and markers, with the daemon up and down."""

from __future__ import annotations

import os
import pwd
from typing import Any

import pytest

from harness import Clone, Daemon, Hg, Served, eventually
from harness.fixtures import PASSING
from harness.hgcid import SPOOLED

ME = pwd.getpwuid(os.geteuid()).pw_name
EVOLUTION = "[experimental]\nevolution = all\n"


def publish(served: Served, clone: Clone, node: str) -> None:
    clone("phase", "--public", node)


def bookmark(served: Served, clone: Clone, node: str) -> None:
    clone("bookmark", "-r", node, "@")
    clone("push", "-B", "@", status=None)


def mark(served: Served, clone: Clone, node: str) -> None:
    clone("update", "-q", f"{node}~1")
    # With its parents, since else no changeset of the server concerns it.
    clone("debugobsolete", "--record-parents", node)


MOVES = {"phases": publish, "bookmarks": bookmark, "markers": mark}


@pytest.mark.parametrize("what", MOVES)
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_what_moves_is_a_push_that_says_what(
    what: str, up: bool, daemon: Daemon, served: Served, clone: Clone, alice: Hg
) -> None:
    served.install("extension", daemon.socket, more=f"[phases]\npublish = no\n{EVOLUTION}")
    alice.configure(EVOLUTION + "[phases]\npublish = no\n")
    first = clone.commit({".hgci.toml": PASSING})
    node = clone.commit({"two": "2"})
    clone("push")
    daemon.final(node)
    if not up:
        daemon.stop()
    MOVES[what](served, clone, node)
    said = clone("push", "-v", status=None).said
    if not up:
        daemon.start()

    def moved() -> Any:
        rows = daemon.get("/api/v1/pushes")["items"]
        return rows[0] if len(rows) > 1 else None

    push = eventually(moved, f"the push of {what}: {said}")
    spool = served.path / ".hg" / "hgci" / "spool"
    eventually(lambda: not list(spool.glob("*.json")), "the spool to be read")
    assert (push["push"], push["changesets"], push["builds"]) == (2, 0, [])
    assert (push["via"], push["user"]) == ("hook" if up else "spool", ME), push
    expected: dict[str, Any] = {"phases": [], "bookmarks": [], "markers": 0}
    expected[what] = {
        "phases": [{"node": each, "to": "public"} for each in (first, node)],
        "bookmarks": [{"name": "@", "from": None, "to": node}],
        "markers": 1,
    }[what]
    assert {name: push[name] for name in expected} == expected
    if what != "bookmarks":
        assert ("push 2 recorded" if up else SPOOLED) in said
    page = daemon.request("GET", "/p/2").decode()
    assert {"phases": "is public", "bookmarks": "bookmark: @", "markers": "markers: 1"}[
        what
    ] in page

"""Builds of changesets that become obsolete are stopped when the markers arrive."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import Clone, Daemon, Hg, Pool, Repo, Served
from harness.fixtures import MakeDaemon

HGRC = "[extensions]\nevolve =\nrebase =\n[experimental]\nevolution = all\n[phases]\npublish = no\n"
# It would go on for longer than anybody waits.
SLOW = 'version = 1\n[job.test]\nrun = "sleep 100000"\n'


def amend(clone: Clone) -> None:
    clone("commit", "--amend", "-q", "-m", "better")


def amend_twice(clone: Clone) -> None:
    amend(clone)
    clone("commit", "--amend", "-q", "-m", "even better")


def rebase(clone: Clone) -> None:
    clone("rebase", "-q", "-s", ".^", "-d", "desc(other)")


def fold(clone: Clone) -> None:
    clone("fold", "-q", "--exact", "-r", ".^::.", "-m", "both")


def split(clone: Clone) -> None:
    clone("split", "-q", "--no-interactive", "-r", ".", "two", "--config", "ui.editor=true")


def prune(clone: Clone) -> None:
    clone("prune", "-q", "-r", ".")


# What is done in a clone, and how many of the last two changesets it makes obsolete.
REWRITES = {
    "amend": (amend, 1, r"rewritten as [0-9a-f]{12}"),
    "amend twice": (amend_twice, 1, r"rewritten as [0-9a-f]{12}"),
    "rebase": (rebase, 2, r"rewritten as [0-9a-f]{12}"),
    "fold": (fold, 2, r"rewritten as [0-9a-f]{12}"),
    "split": (split, 1, r"rewritten as [0-9a-f]{12}, [0-9a-f]{12}"),
    "prune": (prune, 1, "pruned"),
}


class Stack:
    """A served repository that publishes nothing, and two changesets in it whose builds do not end:
    the first runs, the second waits for the only slot."""

    def __init__(self, daemon: Daemon, clone: Clone) -> None:
        self.daemon = daemon
        self.clone = clone
        base = clone.commit({"base": "1"})
        clone.commit({"other": "1"}, message="other")
        clone("update", "-q", base)
        first = clone.commit({".hgci.toml": SLOW})
        self.nodes = [first, clone.commit({"two": "2", "three": "3"})]
        clone("push", "-f")
        self.in_state(first, "running")
        self.in_state(self.nodes[1], "queued")

    def in_state(self, node: str, state: str) -> str | None:
        build = self.daemon.wait_for(node, lambda build: build["jobs"][0]["state"] == state)
        return build["jobs"][0].get("why")


@pytest.fixture
def stack(make_daemon: MakeDaemon, served: Served, alice: Hg, room: Path) -> Stack:
    daemon = make_daemon([Repo(served.path, more={"build": "every"})], [Pool(slots=1)]).start()
    served.install("extension", daemon.socket, more=HGRC)
    alice.configure(HGRC)
    return Stack(daemon, alice.clone(served.path, room / "alice" / "widgets"))


def cancel(stack: Stack, node: str) -> None:
    """What nobody has ended would run on."""
    stack.clone("ci-cancel", "-r", node, status=None)
    stack.daemon.final(node)


@pytest.mark.parametrize("what", REWRITES)
def test_builds_of_what_is_rewritten_are_superseded(what: str, stack: Stack) -> None:
    rewrite, count, how = REWRITES[what]
    rewrite(stack.clone)
    said = stack.clone("push", "-f", status=None).said
    for node in stack.nodes[-count:]:
        why = stack.in_state(node, "superseded")
        assert re.fullmatch(f"the changeset is obsolete: {how}", why or ""), (why, said)
        assert stack.daemon.final(node)["state"] == "superseded"
    new = stack.clone("log", "-r", "draft() - obsolete()", "-T", "{node}\n").out.split()
    for node in stack.nodes[:-count]:
        # An orphan at the most.
        stack.in_state(node, "running")
    for node in [*new, *stack.nodes[:-count]]:
        if stack.daemon.status(node):
            cancel(stack, node)


def test_the_one_who_pushes_is_told_and_asked_builds_are_stopped_too(stack: Stack) -> None:
    stack.clone("update", "-q", stack.nodes[0])
    amend(stack.clone)
    said = stack.clone("push", "-f", "--config", "hgci.wait=30s", status=None).said
    assert "1 build of obsolete changesets stopped" in said
    assert stack.in_state(stack.nodes[0], "superseded")
    # The orphan has the slot now.
    stack.in_state(stack.nodes[1], "running")
    told = stack.clone("ci-status", "--hidden", "-r", stack.nodes[0], status=1).out
    assert re.search("superseded.*rewritten as", told, re.DOTALL), told
    # What somebody asks for is built, though it is obsolete, and no marker came for it since.
    stack.clone("ci-run", "--hidden", "-r", stack.nodes[0])
    stack.in_state(stack.nodes[0], "queued")
    for node in [stack.nodes[0], stack.nodes[1]]:
        stack.clone("ci-cancel", "--hidden", "-r", node)
        assert stack.daemon.final(node)["state"] == "cancelled"
    cancel(stack, stack.clone("log", "-r", "desc(better)", "-T", "{node}").out)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_markers_that_come_while_the_daemon_is_down_are_seen(how: str, stack: Stack) -> None:
    getattr(stack.daemon, how)()
    rebase(stack.clone)
    new = stack.clone("log", "-r", "children(desc(other))::", "-T", "{node}\n").out.split()
    stack.clone("push", "-f")
    stack.daemon.start()
    for node in stack.nodes:
        assert stack.in_state(node, "superseded")
    for node in new:
        cancel(stack, node)


def test_what_is_public_goes_on(stack: Stack, served: Served) -> None:
    # Somebody publishes what somebody else has amended.
    stack.clone("update", "-q", stack.nodes[0])
    amend(stack.clone)
    served.repo("phase", "--public", "-r", stack.nodes[1])
    stack.clone("push", "-f", status=None)
    new = stack.clone("log", "-r", "desc(better)", "-T", "{node}").out
    stack.daemon.wait_for(new, lambda build: build["jobs"][0]["state"] == "queued")
    for node in [*stack.nodes, new]:
        assert stack.daemon.status(node)["state"] == "running"
        cancel(stack, node)

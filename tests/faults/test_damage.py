"""Files that were cut, flipped, emptied or deleted: named, set aside, and the rest goes on."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Clone, Daemon, Served, eventually
from harness.fixtures import PASSING

Harm = Callable[[Path], None]


def truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    dice = random.Random(len(content))
    for _ in range(8):
        content[dice.randrange(len(content) // 4, len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def binary(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(200_000))


def deleted(path: Path) -> None:
    path.unlink()


def zeroed(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def build(clone: Clone, daemon: Daemon, name: str) -> str:
    node = clone.commit({".hgci.toml": PASSING, name: name})
    clone("push")
    assert daemon.final(node)["state"] == "passed"
    return node


@pytest.mark.parametrize("up", [False, True], ids=["stopped", "running"])
@pytest.mark.parametrize("harm", [truncated, flipped, emptied, binary, zeroed, deleted])
def test_a_damaged_results_log_is_named_and_goes_on(
    harm: Harm, up: bool, served: Served, clone: Clone, daemon: Daemon
) -> None:
    first, second = build(clone, daemon, "one"), build(clone, daemon, "two")
    if not up:
        daemon.stop()
    log = served.path / ".hg" / "hgci" / "results"
    harm(log)
    # Readers never fail on it: what cannot be read is as what was never there.
    assert served.repo("ci-status", "-r", first, status=None).status in {0, 3}
    if not up:
        daemon.start()
    third = build(clone, daemon, "three")
    if harm is not flipped:
        lost = f"widgets: {log} had lost results"
        eventually(lambda: lost in daemon.log, "a word of it")
        losses = [loss["what"] for loss in daemon.get("/api/v1/daemon")["losses"]]
        assert any(loss.startswith(lost) for loss in losses), losses
    daemon.stop()
    assert served.repo.status_of("-r", third)[0] == 0
    # A log is not read as a whole for damage in its middle.
    assert str(log) in daemon.log or (harm is flipped and up)
    if harm is not flipped:
        # From the store's history, and each once.
        for node in (first, second):
            assert served.repo.status_of("-r", node)[0] == 0
        records = served.repo("ci-status", "-r", "all()", "-T", "{state}\n").out.split()
        assert records == ["passed"] * 3


def test_a_lost_index_of_the_results_is_made_anew(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    first = build(clone, daemon, "one")
    daemon.stop()
    before = served.repo.status_of("-r", first)
    (served.path / ".hg" / "hgci" / "results.idx").unlink()
    assert served.repo.status_of("-r", first) == before
    daemon.start()
    second = build(clone, daemon, "two")
    daemon.stop()
    assert served.repo.status_of("-r", first) == before
    assert served.repo.status_of("-r", second)[0] == 0


@pytest.mark.parametrize("harm", [truncated, flipped, emptied, binary])
def test_a_damaged_spool_file_is_named_and_its_push_is_built_all_the_same(
    harm: Harm, served: Served, clone: Clone, daemon: Daemon
) -> None:
    build(clone, daemon, "one")
    daemon.stop()
    nodes = []
    for name in ("two", "three"):
        nodes.append(clone.commit({name: name}))
        clone("push")
    spool = served.path / ".hg" / "hgci" / "spool"
    damaged, _ = sorted(spool.glob("*.json"))
    harm(damaged)
    daemon.start()
    head = daemon.final(nodes[-1])
    assert head["state"] == "passed"
    eventually(lambda: not list(spool.glob("*.json")), "the spool to be read")
    assert damaged.name in daemon.log

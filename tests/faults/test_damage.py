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


def build(clone: Clone, daemon: Daemon, name: str) -> str:
    node = clone.commit({".hgci.toml": PASSING, name: name})
    clone("push")
    assert daemon.final(node)["state"] == "passed"
    return node


@pytest.mark.parametrize("harm", [truncated, flipped, emptied, binary])
def test_a_damaged_results_log_is_named_and_goes_on(
    harm: Harm, served: Served, clone: Clone, daemon: Daemon
) -> None:
    first = build(clone, daemon, "one")
    build(clone, daemon, "two")
    daemon.stop()
    log = served.path / ".hg" / "hgci" / "results"
    harm(log)
    # Readers never fail on it: what cannot be read is as what was never there.
    assert served.repo("ci-status", "-r", first, status=None).status in {0, 3}
    daemon.start()
    third = build(clone, daemon, "three")
    daemon.stop()
    assert served.repo.status_of("-r", third)[0] == 0
    assert str(log) in daemon.log


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

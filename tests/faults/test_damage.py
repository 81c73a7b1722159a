"""Files that were cut, flipped, emptied or deleted: named, set aside, and the rest goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Clone, Daemon, Served, eventually
from harness.fixtures import PASSING
from harness.results import ends_of_builds

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


def build(clone: Clone, daemon: Daemon, name: str) -> str:
    node = clone.commit({".hgci.toml": PASSING, name: name})
    clone("push")
    assert daemon.final(node)["state"] == "passed"
    return node


@pytest.mark.parametrize("harm", [truncated, flipped, emptied, binary, deleted])
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


def log_id(log: Path) -> bytes:
    return log.read_bytes()[20:36]


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("harm", [truncated, emptied, binary, deleted])
def test_a_lost_results_log_gets_again_what_is_still_known(
    harm: Harm, running: bool, served: Served, clone: Clone, daemon: Daemon
) -> None:
    nodes = [build(clone, daemon, name) for name in ("one", "two", "three")]
    log = served.path / ".hg" / "hgci" / "results"
    eventually(lambda: len(list(ends_of_builds(log))) == 3, "the results to be written")
    ends, old = list(ends_of_builds(log)), log_id(log)
    before = [served.repo.status_of("-r", node) for node in nodes]
    clone("pull")
    if not running:
        daemon.stop()
    harm(log)
    if running:
        # Nobody waits for the next look of its own accord.
        nodes.append(build(clone, daemon, "four"))
    else:
        daemon.start()

    def losses() -> list[str]:
        return [
            loss["what"] for loss in json.loads(daemon.run("status", "--json").stdout)["losses"]
        ]

    (loss,) = eventually(losses, "the loss to be said")
    assert str(log) in loss
    assert loss in daemon.log
    assert loss in daemon.run("status").stdout
    if not running:
        nodes.append(build(clone, daemon, "four"))
    eventually(lambda: len(list(ends_of_builds(log))) == 4, "the results to be written")
    daemon.stop()
    # Each once, and in their order; a copy that has them takes no second.
    assert list(ends_of_builds(log))[:3] == ends
    assert (log_id(log) == old) == (harm is truncated)
    assert [served.repo.status_of("-r", node) for node in nodes[:3]] == before
    clone("pull")
    (received,) = (clone.path / ".hg" / "hgci" / "from").glob("*/results")
    assert sorted(ends_of_builds(received)) == sorted(ends_of_builds(log))
    # It is said once.
    daemon.start()
    assert losses() == [loss]
    assert daemon.log.count(loss) == 1


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

"""What comes in while the daemon does not hear: recorded, and built later, once."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from harness import Clone, Daemon, Hg, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import SPOOLED


def spool(served: Served) -> list[Path]:
    return sorted((served.path / ".hg" / "hgci" / "spool").glob("*.json"))


def crc32c(data: bytes) -> int:
    """The checksum of a spool file, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def builds(daemon: Daemon, nodes: list[str]) -> list[int]:
    """The numbers of the builds of these changesets, each of which must have ended well."""
    rows = [daemon.final(node) for node in nodes]
    assert {row["state"] for row in rows} == {"passed"}
    return [row["build"] for row in rows]


@pytest.mark.parametrize("transport", ["path", "ssh", "http", "wsgi"])
def test_a_push_while_the_daemon_is_down_says_so_and_is_recorded(
    transport: str, served: Served, clone: Clone, room: Path
) -> None:
    clone.commit({".hgci.toml": PASSING})
    if transport == "path":
        said = clone("push").said
    elif transport == "ssh":
        options, url = served.ssh(room)
        said = clone("push", *options, url).said
    elif transport == "http":
        with served.http() as url:
            said = clone("push", url).said
    else:
        with served.wsgi(room) as url:
            said = clone("push", url).said
    assert SPOOLED in said
    assert len(spool(served)) == 1


@pytest.mark.parametrize("kind", ["extension", "txnclose", "changegroup"])
def test_pushes_while_the_daemon_was_down_are_built_once_when_it_is_back(
    kind: str, served: Served, clone: Clone, daemon: Daemon
) -> None:
    served.install(kind, daemon.socket)
    nodes = [clone.commit({".hgci.toml": PASSING})]
    clone("push")
    assert builds(daemon, nodes) == [1]
    daemon.stop()
    for name in ("two", "three"):
        nodes.append(clone.commit({name: name}))
        assert SPOOLED in clone("push").said
    daemon.start()
    assert builds(daemon, nodes) == [1, 2, 3]
    eventually(lambda: not spool(served), "the spool to be read")
    daemon.stop()
    daemon.start()
    assert builds(daemon, nodes) == [1, 2, 3]


def test_a_spool_file_that_appears_while_the_daemon_runs_is_taken_in(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    # The hook is told of a socket where nobody listens, as after a slip of the pen.
    served.install("extension", daemon.folder / "nobody")
    node = clone.commit({".hgci.toml": PASSING})
    assert SPOOLED in clone("push").said
    assert builds(daemon, [node]) == [1]
    eventually(lambda: not spool(served), "the spool to be read")


def test_what_came_with_hooks_off_is_found_at_the_next_start(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    first = clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert builds(daemon, [first]) == [1]
    daemon.stop()
    served.uninstall()
    second = clone.commit({"two": "2"})
    assert "ci:" not in clone.push_unheard().said
    daemon.start()
    assert builds(daemon, [first, second]) == [1, 2]


def test_what_came_with_hooks_off_is_found_by_the_next_push(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    first = clone.commit({".hgci.toml": PASSING})
    clone("push")
    hgrc = served.hgrc.read_text()
    served.uninstall()
    second = clone.commit({"two": "2"})
    clone.push_unheard()
    served.hgrc.write_text(hgrc)
    third = clone.commit({"three": "3"})
    clone("push")
    assert len(set(builds(daemon, [first, second, third]))) == 3


def test_an_hg_killed_between_transaction_and_hook_loses_no_build(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    first = clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert builds(daemon, [first]) == [1]
    # A hook of the administrator's that runs before ours kills the server.
    text = served.hgrc.read_text()
    killer = "[hooks]\npriority.txnclose.killer = 10000\ntxnclose.killer = kill -9 $PPID\n"
    served.hgrc.write_text(text + killer)
    second = clone.commit({"two": "2"})
    killed = clone.hg.start("push", str(served.path), cwd=clone.path)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert served.repo.node("tip") == second
    served.hgrc.write_text(text)
    third = clone.commit({"three": "3"})
    clone("push")
    assert len(set(builds(daemon, [first, second, third]))) == 3


def test_half_a_transaction_is_not_taken_in_before_it_is_recovered(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    first = clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert builds(daemon, [first]) == [1]
    hgrc = served.hgrc.read_text()
    served.uninstall()
    second = clone.commit({"two": "2"})
    daemon.stop()
    clone.push_unheard()
    served.hgrc.write_text(hgrc)
    # As an hg leaves it that was killed before the end: what it wrote can be seen already.
    journal = served.path / ".hg" / "store" / "journal"
    journal.write_bytes(b"")
    daemon.start()
    eventually(lambda: "hg recover" in daemon.log, "the daemon to say so")
    assert daemon.status(second) is None
    served.repo("recover", "--no-verify", status=None)
    assert not journal.exists()
    assert builds(daemon, [first, second]) == [1, 2]


def test_a_spool_file_without_a_transaction_is_one_push_and_no_older_than_its_file(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    first = clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert builds(daemon, [first]) == [1]
    daemon.stop()
    served.uninstall()
    second = clone.commit({"two": "2"})
    clone.push_unheard()
    # An old time would make all that it names count as new.
    hint = {"v": 1, "repo": os.path.realpath(served.path), "time_ms": 1}
    told = json.dumps({**hint, "first": first, "last": second}).encode()
    folder = served.path / ".hg" / "hgci" / "spool"
    checksum = crc32c(told)
    (folder / "0000000000001-1-1.json").write_bytes(told + f"\ncrc32c {checksum:08x}\n".encode())
    daemon.start()
    assert builds(daemon, [first, second]) == [1, 2]
    [push, _] = daemon.get("/api/v1/pushes")["items"]
    assert (push["via"], push["changesets"]) == ("spool", 1)
    assert push["received"] > 1_000_000_000


def test_a_daemon_that_does_not_answer_costs_a_push_its_deadline_and_no_more(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    first = clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert builds(daemon, [first]) == [1]
    served.install("extension", daemon.socket, deadline="300ms")
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        second = clone.commit({"two": "2"})
        assert SPOOLED in clone("push").said
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    # The daemon may find the call in its socket's queue all the same: one transaction, one push.
    assert builds(daemon, [first, second]) == [1, 2]


def test_a_private_clone_is_not_touched_by_a_setting_for_the_whole_machine(
    alice: Hg, room: Path, served: Served, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path)]).start()
    alice.configure(f"[hgci]\nsocket = {daemon.socket}\n")
    private = alice.init(room / "alice" / "private")
    private.write({".hgci.toml": PASSING})
    assert "ci:" not in private("commit", "-A", "-m", "private").said
    assert not (private.path / ".hg" / "hgci").exists()
    assert private.node() not in daemon.log

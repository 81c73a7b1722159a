"""A full disk under the state folder: said, nothing acknowledged is lost, and it goes on."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Clone, Daemon, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon


@pytest.fixture
def small_disk(room: Path) -> Iterator[Path]:
    """A file system of 24 MiB, where the state folder will be."""
    folder = room / "d" / "state"
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0755", "hgci-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 65536)
    return ballast


def answers(daemon: Daemon, node: str) -> bool:
    assert daemon.process is not None
    assert daemon.process.poll() is None, daemon.log[-3000:]
    with contextlib.suppress(OSError):
        return daemon.status(node) is not None
    return False


def test_a_full_disk_is_said_and_nothing_that_was_acknowledged_is_lost(
    small_disk: Path, served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path)]).start()
    nodes = [clone.commit({".hgci.toml": PASSING})]
    clone("push")
    assert daemon.final(nodes[0])["state"] == "passed"
    # More than once: what happens in the moment in which there is room again is a matter of luck.
    for time in range(4):
        ballast = fill(small_disk)
        for name in ("one", "two", "three"):
            nodes.append(clone.commit({f"{name}-{time}": name}))
            said = clone("push").said
            # Either durable in the store, or durable in the spool of the repository.
            assert "ci: push" in said or "recorded; it will be built later" in said, said
        eventually(lambda: "free" in daemon.run("status").stdout, "a word about it")
        ballast.unlink()
        answer = f"an answer: {daemon.log[-3000:]}"
        eventually(lambda: answers(daemon, nodes[-1]), answer, seconds=60)
        for node in nodes:
            assert daemon.final(node)["state"] == "passed"
    # It is tried again now and then, and not in a loop.
    assert daemon.log.count("the spool waits") < 100
    builds = [daemon.final(node)["build"] for node in nodes]
    assert len(set(builds)) == len(builds)
    daemon.kill()
    daemon.start()
    assert [daemon.final(node)["build"] for node in nodes] == builds


def test_a_daemon_that_starts_on_a_full_disk_says_so_and_harms_nothing(
    small_disk: Path, served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path)]).start()
    nodes = [clone.commit({".hgci.toml": PASSING})]
    clone("push")
    assert daemon.final(nodes[0])["state"] == "passed"
    daemon.stop()
    ballast = fill(small_disk)
    nodes.append(clone.commit({"one": "one"}))
    assert "recorded; it will be built later" in clone("push").said
    for _ in range(3):
        daemon.spawn()
        assert daemon.process is not None
        assert daemon.process.wait(timeout=60) != 0
        daemon.process = None
    assert f"{daemon.state} has " in daemon.log, daemon.log[-2000:]
    assert "in reserve" in daemon.log
    ballast.unlink()
    daemon.start()
    assert [daemon.final(node)["state"] for node in nodes] == ["passed"] * 2
    assert [daemon.final(node)["build"] for node in nodes] == [1, 2]
    assert not list(small_disk.glob("store.aside-*"))

"""Symbolic links in the place of our folders: nothing is read or written where they lead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import Clone, Daemon, Served, eventually
from harness.fixtures import PASSING


def state_of(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that lies below a folder, with what tells whether it was changed."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        stat = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (stat.st_mode, stat.st_ctime_ns, content)
    return found


@pytest.mark.parametrize("level", ["hgci", "hgci/spool"])
def test_a_link_in_the_place_of_a_folder_leads_nobody_astray(
    level: str, served: Served, clone: Clone, daemon: Daemon, room: Path
) -> None:
    first = clone.commit({".hgci.toml": PASSING, "file": "1"})
    clone("push")
    assert daemon.final(first)["state"] == "passed"
    daemon.stop()
    # All that is looked for is there, but in a folder of somebody else.
    place, victim = served.path / ".hg" / level, room / "victim"
    place.rename(victim)
    spool = victim / "spool" if level == "hgci" else victim
    for name in ("1-1-1.json", "2-1-1.json.bad", ".3-1-1.json.new"):
        (spool / name).write_text("mine")
        os.utime(spool / name, (1, 1))
    (victim / "results.1.new").write_text("mine")
    place.symlink_to(victim)
    before = state_of(victim)

    # Neither the hook, while the daemon is down, nor the daemon afterwards.
    second = clone.commit({"file": "2"})
    said = clone("push")
    assert "ci: push not recorded" in said.said
    assert "symbolic link" in said.said
    daemon.start()
    third = clone.commit({"file": "3"})
    clone("push")

    def is_built(node: str) -> bool:
        """Whether it has a build at all: its end waits for the results log."""
        return bool(daemon.get("/api/v1/builds", repo="widgets", node=node)["items"])

    for node in (second, third):
        eventually(lambda node=node: is_built(node), f"a build of {node}")
    said_once = f"cannot use {os.path.realpath(place.parent)}/{place.name}: it is a symbolic link"
    assert eventually(lambda: said_once in daemon.log, "the link to be named")
    if level == "hgci/spool":
        assert daemon.final(second)["state"] == daemon.final(third)["state"] == "passed"
    assert state_of(victim) == before
    assert daemon.log.count(said_once) == 1

    # What it says is all that there is to do.
    place.unlink()
    assert daemon.final(second)["state"] == daemon.final(third)["state"] == "passed"
    eventually(lambda: served.repo.status_of("-r", third)[0] == 0, "the results to be written")
    eventually(lambda: not daemon.attempts_left(), "runners to hear that")
    assert state_of(victim) == before

"""Links in the place of what is hgci's in a repository: whoever may push can make them, and the
daemon may write where that one may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Clone, Served
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import Repo

HINT = "1763650000000-1-1.json"


def victims(folder: Path) -> dict[str, bytes]:
    """Somebody else's files, with the names of those that hgci reads, writes and removes."""
    folder.mkdir()
    spool = folder / "spool"
    for place in (folder, spool):
        place.mkdir(exist_ok=True)
        for name in (HINT, f".{HINT}.new", "results", "results.idx", "taken", "adopted"):
            (place / name).write_text(f"{name} of somebody else")
        (place / "taken.new").write_text("x")
        (place / "results.1.new").write_text("x")
    return content(folder)


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("place", ["hgci", "hgci/spool", "hgci/taken", "hgci/adopted"])
@pytest.mark.parametrize("up", [False, True], ids=["stopped", "running"])
def test_no_link_leads_the_daemon_elsewhere(
    place: str, up: bool, served: Served, clone: Clone, make_daemon: MakeDaemon, room: Path
) -> None:
    daemon = make_daemon([Repo(served.path)]).start()
    first = clone.commit({".hgci.toml": PASSING})
    clone("push")
    daemon.final(first)
    if not up:
        daemon.stop()
    elsewhere = room / "elsewhere"
    before = victims(elsewhere)
    spot = served.path / ".hg" / place
    if spot.exists():
        spot.rename(served.path / ".hg" / "away")
    is_file = place.endswith(("taken", "adopted"))
    spot.symlink_to(elsewhere / spot.name if is_file else elsewhere)
    node = clone.commit({"two": "2"})
    said = clone("push").said
    assert "abort" not in said
    if not up:
        daemon.start()
    if place == "hgci":
        # Its end has nowhere to be written; it is known all the same.
        row = daemon.status(node)
        assert row is None or row["state"] in {"running", "passed"}
        spot.unlink()
        (served.path / ".hg" / "away").rename(spot)
    assert daemon.final(node)["state"] == "passed"
    daemon.stop()
    assert content(elsewhere) == before

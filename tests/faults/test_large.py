"""What is larger than one record of the store takes: it is refused by name or cut, and whatever
comes after it goes on."""

from __future__ import annotations

import json

from harness import Clone, Daemon, Served, eventually
from harness.fixtures import PASSING


def test_a_small_file_that_asks_for_a_large_plan_is_a_mistake_and_stops_nothing(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    jobs = "".join(f'[job.j{n}]\nrun = "true"\n' for n in range(300))
    large = f'version = 1\n[env]\nA = "{"x" * 16000}"\n{jobs}'
    node = clone.commit({".hgci.toml": large})
    clone("push")
    row = daemon.final(node)
    assert row["state"] == "failed"
    assert "more than 2MiB" in row["message"]
    fine = clone.commit({".hgci.toml": PASSING})
    clone("push")
    # No number was used up meanwhile.
    assert (daemon.final(fine)["state"], daemon.final(fine)["build"]) == ("passed", 2)
    assert "refused a batch" not in daemon.log


def test_many_and_long_bookmarks_stop_nothing(served: Served, clone: Clone, daemon: Daemon) -> None:
    first = clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert daemon.final(first)["state"] == "passed"
    names = [f"feature-{n:06}" for n in range(60_000)]
    long = [f"{n:03}" + "b" * 60_000 for n in range(75)]
    lines = "".join(f"{first} {name}\n" for name in names + long)
    (served.path / ".hg" / "bookmarks").write_text(lines)

    def pushed(name: str) -> None:
        node = clone.commit({name: name})
        clone("push", "-r", node)
        assert daemon.final(node)["state"] == "passed"

    def pushes() -> list[dict]:
        return daemon.get("/api/v1/pushes")["items"]

    pushed("one")
    daemon.stop()
    daemon.start()
    pushed("two")
    before = pushes()[0]["push"]
    # One of them moves, and that alone is told.
    served.repo("bookmark", "--force", "-r", "tip", names[1234])
    eventually(lambda: pushes()[0]["push"] > before, "the push of what moved")
    pushed("three")
    status = json.loads(daemon.run("status", "--json").stdout)
    assert status["losses"] == []
    assert "refused a batch" not in daemon.log

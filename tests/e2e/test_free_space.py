"""`limits.free`: below it nothing starts, and status says why."""

from __future__ import annotations

from harness import Clone, Repo, Served
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import Value


def test_below_the_limit_nothing_starts_until_there_is_room(
    served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    # More than any disk has.
    limits: dict[str, Value] = {"free": "8000000TiB", "requests": 1000000}
    daemon = make_daemon([Repo(served.path)], sections={"limits": limits}).start()
    node = clone.commit({".hgci.toml": PASSING})
    assert "ci: push 1 recorded" in clone("push").said
    why = 'free, less than limits.free = "8000000TiB"'
    # A restart starts nothing either: what waits is seen before anything else.
    for again in (False, True):
        if again:
            daemon.kill()
            daemon.start()
        row = daemon.wait_for(node, lambda row: row["jobs"][0]["why"])
        assert row["jobs"][0]["state"] == "queued"
        assert row["jobs"][0]["attempt"] == 0
        assert why in row["jobs"][0]["why"]
        status = daemon.get("/api/v1/daemon")
        assert (status["leases"], status["jobs"]) == ([], {"queued": 1})
        said = daemon.run("status").stdout
        assert f"nothing starts: {daemon.state} has" in said
        assert why in said
    daemon.sections["limits"]["free"] = "1MiB"
    daemon.write_config()
    assert daemon.run("reload").returncode == 0
    assert daemon.final(node)["state"] == "passed"
    assert "nothing starts" not in daemon.run("status").stdout

"""`limits.keep`: old logs go, and that is said; results stay."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from harness import Clone, Daemon, eventually
from harness.fixtures import PASSING
from harness.hgcid import ApiError


def age(folder: Path, days: int) -> None:
    """Makes the logs of a build so old."""
    then = time.time() - days * 86_400
    for log in folder.iterdir():
        os.utime(log, (then, then))


def test_logs_past_their_time_are_removed_and_results_stay(clone: Clone, daemon: Daemon) -> None:
    nodes = []
    for n in range(2):
        nodes.append(clone.commit({".hgci.toml": PASSING, "n": str(n)}))
        clone("push")
        daemon.final(nodes[-1])
    logs = daemon.state / "logs" / "0"
    size = sum(log.stat().st_size for log in (logs / "1").iterdir())
    daemon.stop()
    age(logs / "1", days=91)
    age(logs / "2", days=89)
    daemon.start()
    eventually(lambda: not (logs / "1").exists(), "the old log to go")
    assert (logs / "2").exists()

    def swept() -> dict[str, Any] | None:
        # The daemon before this one has swept, too.
        sweep: dict[str, Any] | None = daemon.get("/api/v1/daemon")["sweep"]
        return sweep if sweep and sweep["logs"] else None

    sweep = eventually(swept, "word of the sweep")
    assert (sweep["logs"], sweep["bytes"], sweep["failure"]) == (1, size, None)
    assert abs(sweep["at"] - time.time()) < 3600
    assert f"removed 1 ({size}B), 0 builds and 0 pushes" in daemon.run("status").stdout
    # The result is there, and who asks for the log is told where it went.
    status, [row] = clone.status_of("-r", nodes[0])
    assert (status, row["state"]) == (0, "passed")
    why = "the logs of build 1 were past [limits] keep (90d) and removed"
    told = clone("ci-log", "-r", nodes[0], "test", status=None)
    assert told.status == 255
    assert f"abort: no log of test of {nodes[0][:12]}: {why}" in told.said
    for path in ("/api/v1/builds/1/jobs/test/log", "/b/1/test/log"):
        with pytest.raises(ApiError) as gone:
            daemon.request("GET", path)
        assert gone.value.status == 410
        assert json.loads(gone.value.body)["error"] == why
    assert "true" in clone("ci-log", "-r", nodes[1], "test").out
    # Less is kept from a reload on.
    daemon.sections["limits"]["keep"] = "88d"
    daemon.write_config()
    assert daemon.run("reload").returncode == 0
    eventually(lambda: not (logs / "2").exists(), "the other log to go")
    assert clone("ci-log", "-r", nodes[1], "test", status=None).status == 255

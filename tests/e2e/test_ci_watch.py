"""`hg ci-status --watch` and `hg ci-log -f` of a real daemon, also while it is restarted."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import pytest

from harness import Clone, Daemon, Hg, Pool, Repo, Served, eventually
from harness.fixtures import MakeDaemon
from harness.patience import LONG

# The second job ends when somebody says so.
TWO_JOBS = """\
version = 1

[job.build]
run = "echo built"

[job.test]
needs = ["build"]
run = "echo begun; while [ ! -e 'GATE' ]; do sleep 0.1; done; echo done; exit 3"
"""


@pytest.mark.parametrize("transport", ["path", "http"])
def test_watching_from_the_push_to_the_end_through_a_restart(
    transport: str,
    served: Served,
    clone: Clone,
    make_daemon: MakeDaemon,
    alice: Hg,
    room: Path,
) -> None:
    daemon = make_daemon([Repo(served.path)], [Pool(slots=1, isolation="none")]).start()
    gate = room / "gate"
    node = clone.commit({".hgci.toml": TWO_JOBS.replace("GATE", str(gate))})
    clone("push")
    with served.http() as url:
        # Two first requests at a time may find modules of hg's half loaded.
        alice.run("id", url)
        options = ["--config", f"paths.default={url}"] if transport == "http" else []
        watching = alice.start("ci-status", "--watch", *options, cwd=clone.path)
        eventually(lambda: runs(daemon, node), "the second job")
        following = alice.start("ci-log", "-f", "test", *options, cwd=clone.path)
        # The daemon has answered both.
        first = [
            os.read(child.stdout.fileno(), 1) for child in (watching, following) if child.stdout
        ]
        daemon.kill()
        daemon.start()
        gate.touch()
        states = (first[0] + watching.communicate(timeout=120)[0]).decode().splitlines()
        log = first[1] + following.communicate(timeout=120)[0]
    assert (watching.returncode, following.returncode) == (1, 0), (states, log)
    assert log.endswith(b"\nbegun\ndone\nhgci: exit status 3\n")
    said = [line.split()[1:3] for line in states if line.startswith(node[:12])]
    order = [["passed", "build"], ["running", "test"], ["failed", "test"]]
    assert [item for item in said if item in order] == order
    assert "exit 3" in states[-1]


def runs(daemon: Daemon, node: str) -> bool:
    row = daemon.status(node)
    return bool(row) and any(
        job["name"] == "test" and job["state"] == "running" for job in row["jobs"]
    )


def test_no_command_of_a_batch_waits(
    served: Served, clone: Clone, make_daemon: MakeDaemon, room: Path
) -> None:
    """Else a single request could hold a thread of the server for minutes."""
    daemon = make_daemon([Repo(served.path)], [Pool(slots=1, isolation="none")]).start()
    gate = room / "gate"
    node = clone.commit({".hgci.toml": TWO_JOBS.replace("GATE", str(gate))})
    clone("push")
    eventually(lambda: runs(daemon, node), "the second job")
    one = f"hgci-log node={node},job=test,offset=1000,wait=5000"
    with served.http() as url:
        # They would take five minutes.
        request = urllib.request.Request(
            f"{url}?cmd=batch", headers={"X-HgArg-1": f"cmds={';'.join([one] * 60)}"}
        )
        with urllib.request.urlopen(request, timeout=LONG) as answer:
            answered = answer.read()
    gate.touch()
    assert answered.count(b";") == 59, answered[:500]
    daemon.final(node)

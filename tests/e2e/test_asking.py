"""Runs, retries and cancels that people ask the daemon for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness import Clone, Daemon, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import Answer
from harness.leftovers import is_running
from harness.openapi import mistakes
from harness.raw import error_of

# Its second job fails the first time, and the last one needs it.
FLAKY = """\
version = 1

[job.build]
run = "echo built"

[job.test]
needs = ["build"]
run = "test -e /tmp/hgci-no-such-file"

[job.deploy]
needs = ["test"]
run = "echo deployed"
"""
LONG_JOBS = """\
version = 1

[job.one]
run = "trap '' TERM; sleep 86419 & sleep 86423"

[job.two]
needs = ["one"]
run = "true"
"""


def ask(daemon: Daemon, what: str, node: str, *jobs: str, **more: Any) -> Answer:
    """What the extension sends for `hg ci-run` and its like."""
    repo = str(daemon.repos[0].path)
    body = {"v": 1, "repo": repo, "node": node, "jobs": list(jobs), **more}
    return daemon.ask("POST", f"/api/v1/{what}", json.dumps(body).encode())


def asked(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    found: dict[str, Any] = json.loads(answer.body)
    return found


def states(row: dict[str, Any]) -> dict[str, str]:
    return {job["name"]: job["state"] for job in row["jobs"]}


def test_a_retry_runs_what_failed_and_keeps_the_rest(clone: Clone, daemon: Daemon) -> None:
    node = clone.commit({".hgci.toml": FLAKY})
    clone("push")
    first = daemon.final(node)
    assert states(first) == {"build": "passed", "test": "failed", "deploy": "skipped"}
    done = asked(ask(daemon, "retry", node, id="one"))
    assert (done["build"], done["jobs"], done["kept"]) == (2, ["test", "deploy"], 1)
    again = asked(ask(daemon, "retry", node, id="one"))
    assert again == {**done, "again": True}
    row = daemon.wait_for(node, lambda row: row["build"] == 2 and row["state"] == "failed")
    assert states(row) == states(first)
    assert row["by"] == done["by"]
    [build] = [job for job in row["jobs"] if job["name"] == "build"]
    assert (build["from"], build["attempt"], build["duration"]) == (
        1,
        1,
        first["jobs"][0]["duration"],
    )
    log = daemon.request("GET", f"/api/v1/log?repo=widgets&node={node}&job=build")
    assert b"built" in log
    # What was asked for is a push of its own, by who asked.
    push = daemon.get("/api/v1/pushes/2")
    assert (push["via"], push["user"], push["builds"]) == ("asked", done["by"], [2])
    assert daemon.get("/api/v1/builds/1")["state"] == "failed"


def test_a_run_is_of_jobs_with_what_they_need(clone: Clone, daemon: Daemon) -> None:
    node = clone.commit({".hgci.toml": FLAKY})
    clone("push")
    daemon.final(node)
    done = asked(ask(daemon, "run", node, "test"))
    assert (done["jobs"], done["kept"]) == (["build", "test"], 1)
    daemon.wait_for(node, lambda row: row["build"] == 2 and row["state"] == "failed")
    assert asked(ask(daemon, "run", node))["jobs"] == ["build", "test", "deploy"]
    daemon.wait_for(node, lambda row: row["build"] == 3 and row["state"] == "failed")


def test_old_history_without_a_build_can_be_run(
    make_daemon: MakeDaemon, served: Served, clone: Clone
) -> None:
    node = clone.commit({".hgci.toml": FLAKY})
    served.uninstall()
    clone("push")
    served.install("extension", clone.path.parents[1] / "d" / "s")
    # It is taken as seen: nothing is built of it by itself.
    daemon = make_daemon([Repo(served.path)]).start()
    assert daemon.status(node) is None
    refused = ask(daemon, "retry", node)
    assert (refused.status, "no result to retry" in error_of(refused.body)) == (409, True)
    assert asked(ask(daemon, "run", node, "build"))["jobs"] == ["build"]
    row = daemon.final(node)
    assert states(row) == {"build": "passed"}


def test_what_cannot_be_done_is_refused_with_the_reason(
    clone: Clone, daemon: Daemon, served: Served
) -> None:
    empty = clone.commit({"a": "1"})
    malformed = clone.commit({".hgci.toml": "version = 1\n[job.x]\nrnu = 1\n"})
    node = clone.commit({".hgci.toml": PASSING})
    clone("push")
    daemon.final(node)
    for what, which, jobs, status, words in (
        ("run", empty, [], 422, "there is no .hgci.toml"),
        ("run", malformed, [], 422, "unknown key"),
        ("run", "12" * 20, [], 404, "there is no changeset 1212"),
        ("run", node, ["nothing"], 404, 'no job "nothing" in the pipeline'),
        ("retry", node, [], 409, "no job of that changeset has failed"),
        ("cancel", node, [], 409, "build 1 of that changeset has ended"),
        ("cancel", empty, [], 409, "no build of that changeset is queued or running"),
        ("run", node, ["x"] * 1001, 400, "more than 1000 jobs"),
    ):
        refused = ask(daemon, what, which, *jobs)
        assert refused.status == status, refused.body
        assert words in error_of(refused.body)
    refused = ask(daemon, "run", node, id="x" * 65)
    assert (refused.status, "too long" in error_of(refused.body)) == (400, True)
    # Nothing was recorded of all that.
    assert daemon.get("/api/v1/pushes")["items"][0]["push"] == 1


def test_a_cancel_ends_all_processes_at_once_and_the_next_run_may_come(
    clone: Clone, daemon: Daemon
) -> None:
    node = clone.commit({".hgci.toml": LONG_JOBS})
    clone("push")
    daemon.wait_for(node, lambda row: states(row)["one"] == "running")
    eventually(lambda: sleeping(), "the job to sleep")
    refused = ask(daemon, "run", node)
    assert refused.status == 409
    assert "build 1 of that changeset has not ended" in error_of(refused.body)
    done = asked(ask(daemon, "cancel", node))
    assert done["jobs"] == ["one", "two"]
    # The runner does not wait for its next renewal, which would be half a minute later.
    row = daemon.final(node, seconds=25)
    assert (row["state"], states(row)) == ("cancelled", {"one": "cancelled", "two": "cancelled"})
    assert row["jobs"][0]["why"] == f"cancelled by {done['by']}"
    eventually(lambda: not sleeping(), "the job's processes to be gone")
    assert asked(ask(daemon, "cancel", node))["again"] is True
    asked(ask(daemon, "run", node))
    daemon.wait_for(node, lambda row: states(row)["one"] == "running")
    assert asked(ask(daemon, "cancel", node, "two"))["jobs"] == ["two"]
    row = daemon.wait_for(node, lambda row: states(row)["two"] == "cancelled")
    assert states(row)["one"] == "running"
    asked(ask(daemon, "cancel", node))
    daemon.final(node)


def sleeping() -> list[str]:
    return [command for command in ("sleep 86419", "sleep 86423") if is_running(command)]


def test_what_was_acknowledged_survives_a_kill(clone: Clone, daemon: Daemon) -> None:
    node = clone.commit({".hgci.toml": PASSING})
    clone("push")
    daemon.final(node)
    for n in range(5):
        done = asked(ask(daemon, "run", node, id=f"request {n}".replace(" ", "-")))
        daemon.kill()
        daemon.start()
        row = daemon.wait_for(node, lambda row, n=n: row["build"] == n + 2)
        assert (row["by"], row["build"]) == (done["by"], done["build"])
        again = asked(ask(daemon, "run", node, id=f"request-{n}"))
        assert (again["again"], again["build"]) == (True, done["build"])
        assert daemon.final(node)["state"] == "passed"
    assert len(daemon.get("/api/v1/pushes")["items"]) == 6


def test_a_cancel_that_was_acknowledged_survives_a_kill(clone: Clone, daemon: Daemon) -> None:
    node = clone.commit({".hgci.toml": LONG_JOBS})
    clone("push")
    daemon.wait_for(node, lambda row: states(row)["one"] == "running")
    asked(ask(daemon, "cancel", node))
    daemon.kill()
    daemon.start()
    assert daemon.final(node)["state"] == "cancelled"


def test_a_question_waits_for_what_is_new(clone: Clone, daemon: Daemon) -> None:
    node = clone.commit({".hgci.toml": PASSING})
    clone("push")
    daemon.final(node)
    path = f"/api/v1/status?repo=widgets&node={node}"
    first = daemon.ask("GET", path)
    tag = first.headers["hgci-tag"]
    assert first.headers["hgci-planning"] == "0"
    same = daemon.ask("GET", f"{path}&seen={tag}&wait=50")
    assert same.headers["hgci-tag"] == tag
    asked(ask(daemon, "run", node))
    other = daemon.ask("GET", f"{path}&seen={tag}&wait=55000")
    assert other.headers["hgci-tag"] != tag
    assert json.loads(other.body)[0]["build"] == 2
    daemon.final(node)


@pytest.mark.parametrize("what", ["run", "retry", "cancel"])
def test_answers_are_as_the_document_says(clone: Clone, daemon: Daemon, what: str) -> None:
    node = clone.commit({".hgci.toml": FLAKY if what != "cancel" else LONG_JOBS})
    clone("push")
    if what == "cancel":
        daemon.wait_for(node, lambda row: row["state"] == "running")
    else:
        daemon.final(node)
    document = daemon.get("/api/v1/openapi.json")
    call = document["paths"][f"/api/v1/{what}"]["post"]
    schema = call["responses"]["200"]["content"]["application/json"]["schema"]
    assert mistakes(document, schema, asked(ask(daemon, what, node)), what) == []
    status = document["components"]["schemas"]["NodeStatus"]
    assert mistakes(document, status, daemon.final(node), "status") == []
    daemon.wait_for(node, lambda row: row["state"] in ("failed", "cancelled"))
    build = document["components"]["schemas"]["BuildDetail"]
    assert mistakes(document, build, daemon.get("/api/v1/builds/1"), "build") == []

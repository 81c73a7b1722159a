"""The main job: a push is built, and its result is seen with hg and in the mail."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Clone, Daemon, Hg, Repo, Served, Smtp, eventually
from harness.fixtures import PASSING, MakeDaemon

TWO_JOBS = """\
version = 1

[job.build]
run = ["mkdir out", "echo built > out/file"]

[job.test]
needs = ["build"]
run = "echo looking; cat missing-file"
"""


def build_of(clone: Clone, daemon: Daemon, *push: str) -> tuple[str, str]:
    """Pushes a changeset; returns its node, and what hg said once the build has ended."""
    node = clone.commit({".hgci.toml": PASSING, "file": "content\n"})
    said = clone("push", *push).said
    assert daemon.final(node)["state"] == "passed"
    return node, said


@pytest.mark.parametrize("kind", ["extension", "txnclose", "changegroup"])
def test_a_push_over_a_path_is_built(
    kind: str, served: Served, clone: Clone, daemon: Daemon
) -> None:
    served.install(kind, daemon.socket)
    node, said = build_of(clone, daemon)
    assert "ci: push 1 recorded" in said
    status, rows = clone.status_of("-r", node)
    assert status == 0
    assert [(row["node"], row["state"], row["push"]) for row in rows] == [(node, "passed", 1)]
    assert [job["name"] for job in rows[0]["jobs"]] == ["test"]


def test_a_push_over_ssh_is_built(served: Served, clone: Clone, daemon: Daemon, room: Path) -> None:
    options, url = served.ssh(room)
    _, said = build_of(clone, daemon, *options, url)
    assert "remote: ci: push 1 recorded" in said


def test_a_push_over_http_is_built(served: Served, clone: Clone, daemon: Daemon) -> None:
    with served.http() as url:
        _, said = build_of(clone, daemon, url)
    assert "remote: ci: push 1 recorded" in said


def test_a_push_to_hgweb_under_wsgi_is_built(
    served: Served, clone: Clone, daemon: Daemon, room: Path
) -> None:
    with served.wsgi(room, user="carol") as url:
        _, said = build_of(clone, daemon, url)
    assert "remote: ci: push 1 recorded" in said


def test_a_pull_on_the_server_is_built(served: Served, clone: Clone, daemon: Daemon) -> None:
    node = clone.commit({".hgci.toml": PASSING})
    served.repo("pull", str(clone.path))
    assert daemon.final(node)["state"] == "passed"


def test_an_unbundle_on_the_server_is_built(
    served: Served, clone: Clone, daemon: Daemon, room: Path
) -> None:
    node = clone.commit({".hgci.toml": PASSING})
    clone("bundle", "--all", str(room / "bundle.hg"))
    served.repo("unbundle", str(room / "bundle.hg"))
    assert daemon.final(node)["state"] == "passed"


def test_a_commit_on_the_server_is_built(served: Served, daemon: Daemon) -> None:
    node = served.repo.commit({".hgci.toml": PASSING})
    assert daemon.final(node)["state"] == "passed"


def test_a_strip_on_the_server_triggers_nothing_and_loses_no_result(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    first = clone.commit({".hgci.toml": PASSING})
    second = clone.commit({"two": "2"})
    clone("push")
    clone("update", "-q", first)
    third = clone.commit({"three": "3"})
    clone("push", "-f")
    before = [daemon.final(node) for node in (second, third)]
    # The second goes; the third is saved and added again under a new transaction.
    served.repo("strip", "--config=extensions.strip=", "--no-backup", "-r", second)
    fourth = clone.commit({"four": "4"})
    clone("push", "-r", fourth)
    built = daemon.final(fourth)
    assert [daemon.status(node) for node in (second, third)] == before
    assert built["build"] == max(row["build"] for row in before) + 1


def test_every_head_of_a_push_is_built_and_nothing_else(clone: Clone, daemon: Daemon) -> None:
    first = clone.commit({".hgci.toml": PASSING})
    clone.commit({"a": "1"})
    one = clone.commit({"a": "2"})
    clone("update", "-q", first)
    two = clone.commit({"b": "1"})
    clone("push", "-f")
    assert daemon.final(one)["state"] == "passed"
    assert daemon.final(two)["state"] == "passed"
    assert daemon.status(first) is None


def test_a_repository_seen_for_the_first_time_gets_no_builds_of_old_history(
    served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    old = clone.commit({".hgci.toml": PASSING})
    served.uninstall()
    clone.push_unheard()
    daemon = make_daemon([Repo(served.path)]).start()
    served.install("extension", daemon.socket)
    new = clone.commit({"new": "1"})
    clone("push")
    assert daemon.final(new)["build"] == 1
    assert daemon.status(old) is None


def test_a_failing_job_is_seen_with_its_exit_status_and_its_log(
    clone: Clone, daemon: Daemon
) -> None:
    node = clone.commit({".hgci.toml": TWO_JOBS})
    clone("push")
    daemon.final(node)
    status, [row] = clone.status_of()
    assert status == 1
    assert row["state"] == "failed"
    jobs = {job["name"]: job for job in row["jobs"]}
    assert jobs["build"]["state"] == "passed"
    assert (jobs["test"]["state"], jobs["test"]["exit"]) == ("failed", 1)
    assert jobs["test"]["pool"] == "here"
    log = clone("ci-log", "-r", node, "test").out
    assert "looking\n" in log
    assert "missing-file" in log
    # Each format of hg can say it.
    for template in ("cbor", "json", "debug", "{ci_state}{node}"):
        assert clone("ci-status", "-T", template, status=1).out


def test_a_malformed_pipeline_is_a_failed_build_that_says_where(
    clone: Clone, daemon: Daemon
) -> None:
    node = clone.commit({".hgci.toml": 'version = 1\n[job.test]\nrnu = "true"\n'})
    clone("push")
    row = daemon.final(node)
    assert (row["state"], row["jobs"]) == ("failed", [])
    assert ".hgci.toml:3:1" in row["message"]
    assert "run" in row["message"]
    status, [seen] = clone.status_of()
    assert (status, seen["state"]) == (1, "failed")


def test_a_changeset_without_a_pipeline_gets_no_build(clone: Clone, daemon: Daemon) -> None:
    bare = clone.commit({"file": "1"})
    clone("push")
    built = clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert daemon.final(built)["push"] == 2
    assert daemon.status(bare) is None
    status = clone("ci-status", "-r", bare, status=None).status
    assert status == 3


@pytest.mark.parametrize("transport", ["ssh", "http"])
def test_the_status_reaches_a_clone_over_the_wire(
    transport: str, served: Served, clone: Clone, alice: Hg, daemon: Daemon, room: Path
) -> None:
    node = clone.commit({".hgci.toml": TWO_JOBS})
    clone("push")
    daemon.final(node)
    if transport == "ssh":
        options, url = served.ssh(room)
        far = alice.clone(url, room / "far", *options)
        found = far.status_of(*options, "--live", "-r", node)
        log = far("ci-log", *options, "-r", node, "test").out
    else:
        with served.http() as url:
            far = alice.clone(url, room / "far")
            found = far.status_of("--live", "-r", node)
            log = far("ci-log", "-r", node, "test").out
    status, [row] = found
    assert (status, row["state"]) == (1, "failed")
    assert "looking\n" in log


def test_a_running_job_is_seen_live_and_can_be_followed(
    clone: Clone, daemon: Daemon, room: Path
) -> None:
    pipeline = (
        'version = 1\n[job.slow]\nrun = "echo waiting; until test -e go; do sleep 0.02; done"\n'
    )
    # Unsandboxed folders of the host are out of sight, so the job waits for its own file.
    node = clone.commit({".hgci.toml": pipeline})
    clone("push")

    def running() -> bool:
        row = daemon.status(node)
        return bool(row and row["jobs"] and row["jobs"][0]["state"] == "running")

    eventually(running, "the job to run")
    status, [row] = clone.status_of("--live")
    assert (status, row["state"], row["source"]) == (2, "running", "live")
    eventually(lambda: "waiting\n" in clone("ci-log", "slow").out, "the log")
    [tree] = daemon.state.glob("work/*/tree")
    (tree / "go").touch()
    assert daemon.final(node)["state"] == "passed"
    assert clone.status_of()[0] == 0


def test_the_author_gets_one_mail_with_the_failing_lines(
    served: Served, clone: Clone, make_daemon: MakeDaemon, smtp: Smtp
) -> None:
    mail = {"smtp": smtp.url, "from": "CI <ci@example.org>", "digest": "0s", "to": ["author"]}
    daemon = make_daemon([Repo(served.path)], sections={"mail": mail}).start()
    node = clone.commit({".hgci.toml": TWO_JOBS})
    clone("push")
    daemon.final(node)
    message = eventually(lambda: smtp.messages, "the mail")[0]
    text = message.get_body(("plain",))
    assert text is not None
    content = text.get_content()
    assert smtp.recipients == [["alice@example.org"]]
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["List-Id"]
    assert "missing-file" in content
    assert "test" in content
    assert node[:12] in content

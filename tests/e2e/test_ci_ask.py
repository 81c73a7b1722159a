"""`hg ci-run`, `hg ci-retry` and `hg ci-cancel`, over each transport, and who may not."""

from __future__ import annotations

import json
import shlex
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import Clone, Daemon, Hg, Served, eventually
from harness.programs import HG_TESTS, PYTHON

FAILING = """\
version = 1

[job.build]
run = "echo built"

[job.test]
run = "exit 3"
"""
WAITING = 'version = 1\n[job.long]\nrun = "sleep 86421"\n'
TRANSPORTS = ["here", "path", "ssh", "http", "wsgi"]


@contextmanager
def reached(
    transport: str, served: Served, clone: Clone, alice: Hg, room: Path
) -> Iterator[tuple[Clone, list[str]]]:
    """A repository where somebody asks, with the options for its hg."""
    if transport == "here":
        yield Clone(alice, served.path), []
    elif transport == "path":
        yield clone, []
    elif transport == "ssh":
        options, url = served.ssh(room)
        yield alice.clone(url, room / "far", *options), options
    elif transport == "http":
        with served.http() as url:
            yield alice.clone(url, room / "far"), []
    else:
        with served.wsgi(room, user="carol") as url:
            yield alice.clone(url, room / "far"), []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_who_may_push_may_ask_over_every_transport(
    transport: str, served: Served, clone: Clone, daemon: Daemon, alice: Hg, room: Path
) -> None:
    first = clone.commit({".hgci.toml": FAILING})
    node = clone.commit({"second": "2"})
    clone("push")
    assert daemon.final(node)["state"] == "failed"
    assert daemon.status(first) is None
    with reached(transport, served, clone, alice, room) as (asking, options):
        done = asking("ci-retry", *options, "-r", node, "-T", "json")
        [item] = json.loads(done.out)
        assert (item["node"], item["build"], item["jobs"], item["kept"]) == (node, 2, ["test"], 1)
        row = daemon.wait_for(node, lambda row: row["build"] == 2 and row["state"] == "failed")
        assert {job["name"]: job["state"] for job in row["jobs"]} == {
            "build": "passed",
            "test": "failed",
        }
        assert row["by"] == item["by"]
        # A changeset in the middle of a push has no build until somebody asks for one.
        said = asking("ci-run", *options, "-r", first, "build").out
        assert said.startswith("build 3: 1 jobs to run")
        assert daemon.final(first)["jobs"][0]["state"] == "passed"
        waiting = clone.commit({".hgci.toml": WAITING})
        clone("push")
        eventually(lambda: list(daemon.state.glob("work/*/tree/.hgci.toml")), "the job to run")
        if transport != "path":
            asking("pull", *options, str(served.path))
        said = asking("ci-cancel", *options, "-r", waiting).out
        assert said == "build 4: 1 jobs cancelled\n"
        assert daemon.final(waiting)["state"] == "cancelled"
        refused = asking("ci-cancel", *options, "-r", node, status=255).err
        assert refused.startswith(f"abort: cannot cancel jobs of {node[:12]}: ")
        refused = asking("ci-run", *options, "-r", waiting, "lnog", status=255).err
        assert "lnog" in refused
    pushes = daemon.get("/api/v1/pushes")["items"]
    assert [push["via"] for push in pushes] == ["hook", "asked", "asked", "hook"]


def test_what_was_answered_outlives_a_kill_of_the_daemon(clone: Clone, daemon: Daemon) -> None:
    node = clone.commit({".hgci.toml": FAILING})
    clone("push")
    daemon.final(node)
    for build in range(2, 6):
        [item] = json.loads(clone("ci-retry", "-r", node, "-T", "json").out)
        daemon.kill()
        daemon.start()
        assert item["build"] == build
        row = daemon.wait_for(
            node, lambda row, build=build: row["build"] == build and row["state"] == "failed"
        )
        assert row["by"] == item["by"]
    waiting = clone.commit({".hgci.toml": WAITING})
    clone("push")
    eventually(lambda: list(daemon.state.glob("work/*/tree/.hgci.toml")), "the job to run")
    clone("ci-cancel", "-r", waiting)
    daemon.kill()
    daemon.start()
    assert daemon.final(waiting)["state"] == "cancelled"
    assert len(daemon.get("/api/v1/builds")["items"]) == 6


def test_a_changeset_that_was_not_pushed_is_named(clone: Clone, daemon: Daemon) -> None:
    node = clone.commit({".hgci.toml": FAILING})
    said = clone("ci-run", status=255).err
    assert f"unknown changeset {node[:12]}; push it first" in said
    assert daemon.get("/api/v1/pushes")["items"] == []


@pytest.mark.parametrize("hook", ["pretxnopen", "prepushkey"])
def test_an_ssh_wrapper_that_lets_only_read_lets_nobody_ask(
    hook: str, served: Served, clone: Clone, daemon: Daemon, alice: Hg, room: Path
) -> None:
    node = clone.commit({".hgci.toml": FAILING})
    clone("push")
    daemon.final(node)
    options, url = served.ssh(room)
    far = alice.clone(url, room / "far", *options)
    # As hg-ssh --read-only does it, but that it does both.
    served.hgrc.write_text(served.hgrc.read_text() + f"[hooks]\n{hook}.hg-ssh = false\n")
    assert far("ci-status", *options, "-r", node, status=None).status == 1
    said = far("ci-retry", *options, "-r", node, status=255).err
    assert "that is for who may push: " in said
    assert len(daemon.get("/api/v1/builds")["items"]) == 1


def test_hg_ssh_with_read_only_lets_read_and_not_ask(
    served: Served, clone: Clone, daemon: Daemon, alice: Hg, room: Path
) -> None:
    node = clone.commit({".hgci.toml": FAILING})
    clone("push")
    daemon.final(node)
    _, url = served.ssh(room)
    wrapper = [str(PYTHON), str(HG_TESTS / "contrib" / "hg-ssh")]
    server = " ".join(f"{name}={shlex.quote(value)}" for name, value in served.admin.env.items())

    def through(*options: str) -> str:
        # What sshd does with a command= in authorized_keys.
        script = room / "ssh-for-keys"
        command = shlex.join([*wrapper, *options, str(served.path)])
        script.write_text(
            f'#!/bin/sh\nshift\nexec env -i {server} SSH_ORIGINAL_COMMAND="$*" {command}\n'
        )
        script.chmod(0o755)
        return f"--config=ui.ssh={script}"

    readonly = through("--read-only")
    far = alice.clone(url, room / "far", readonly)
    assert far("ci-status", readonly, "--live", "-r", node, status=None).status == 1
    assert "built" in far("ci-log", readonly, "-r", node, "build").out
    for what in ("ci-run", "ci-retry", "ci-cancel"):
        said = far(what, readonly, "-r", node, status=255).err
        assert "that is for who may push: " in said
        assert "Permission denied" in said
    assert len(daemon.get("/api/v1/builds")["items"]) == 1
    far("ci-retry", through(), "-r", node)
    assert len(daemon.get("/api/v1/builds")["items"]) == 2
    eventually(lambda: daemon.get("/api/v1/builds/2")["ended"], "its end")


def test_over_http_who_may_not_push_is_refused_and_nothing_comes_by_get(
    served: Served, clone: Clone, daemon: Daemon, alice: Hg, room: Path
) -> None:
    node = clone.commit({".hgci.toml": FAILING})
    clone("push")
    daemon.final(node)
    with served.http() as url:
        query = f"?cmd=hgci-ask&what=retry&node={node}&jobs=&id=one"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url + query)
        assert refused.value.code == 405
    served.hgrc.write_text(served.hgrc.read_text().replace("allow-push = *", "allow-push = bob"))
    with served.http() as url:
        far = alice.clone(url, room / "far")
        said = far("ci-retry", "-r", node, status=255).err
        assert "authorization failed" in said or "push not authorized" in said
    assert len(daemon.get("/api/v1/builds")["items"]) == 1


def test_where_nobody_answers_that_is_said(alice: Hg, room: Path) -> None:
    alone = alice.init(room / "alone")
    alone.commit({"a": "a"})
    said = alone("ci-run", status=255).err
    assert said.startswith("abort: cannot ask for that: there is no default path\n")

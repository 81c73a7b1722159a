"""TCP: what is public can be read, what is not is not there, and nothing can be told."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import pytest

from harness import Clone, Daemon, Hg, Repo, Served
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import Answer
from harness.smtp import free_port

URL = "https://ci.example.org/"


@pytest.fixture
def secret(admin: Hg, served: Served) -> Served:
    """Another served repository, `gadgets`, that is not public."""
    other = Served.create(admin, served.path.parent / "gadgets")
    other.install("extension", served.path.parent.parent / "d" / "s")
    return other


@pytest.fixture
def open_daemon(make_daemon: MakeDaemon, served: Served, secret: Served) -> Daemon:
    """A daemon on TCP that serves `widgets` to everybody and `gadgets` to this machine."""
    web = {"listen": f"127.0.0.1:{free_port()}", "url": URL}
    repos = [Repo(served.path, more={"public": True}), Repo(secret.path, name="gadgets")]
    return make_daemon(repos, sections={"web": web}).start()


def error_of(answer: Answer) -> str:
    problem: dict[str, Any] = json.loads(answer.body)
    return str(problem["error"])


def test_a_public_repository_is_read_without_a_token(clone: Clone, open_daemon: Daemon) -> None:
    node = clone.commit({".hgci.toml": PASSING.replace("true", "echo hello")})
    said = clone("push").said
    assert f"ci: push 1 recorded: {URL}p/1\n" in said
    row = open_daemon.final(node)
    seen = open_daemon.tcp("GET", f"/api/v1/status?repo=widgets&node={node}")
    assert (seen.status, json.loads(seen.body)) == (200, [row])
    assert row["url"] == f"{URL}b/1"
    assert row["jobs"][0]["url"] == f"{URL}b/1/test"
    log = open_daemon.tcp("GET", f"/api/v1/log?repo=widgets&node={node}&job=test")
    assert (log.status, log.body) == (200, b"$ echo hello\nhello\n")


def test_a_repository_that_is_not_public_is_as_if_it_were_not_there(
    alice: Hg, secret: Served, open_daemon: Daemon
) -> None:
    clone = alice.clone(secret.path, alice.home / "gadgets")
    node = clone.commit({".hgci.toml": PASSING})
    clone("push")
    open_daemon.final(node, open_daemon.repos[1])
    path = os.path.realpath(secret.path)
    for name in ("gadgets", path, "nothing"):
        for call in (f"status?repo={name}&node={node}", f"log?repo={name}&node={node}&job=test"):
            answer = open_daemon.tcp("GET", f"/api/v1/{call}")
            assert answer.status == 404
            assert error_of(answer) == (
                f"{name} is not among the repositories of this daemon ([[repo]] path)"
            )


def test_nothing_can_be_told_over_tcp(served: Served, open_daemon: Daemon) -> None:
    hint = {"v": 1, "repo": str(served.path), "txid": "x", "last": "1" * 40}
    for method, path, body in (
        ("POST", "/api/v1/hints", hint),
        ("GET", "/api/v1/daemon", None),
        ("POST", "/api/v1/daemon/drain", {"on": True}),
        ("POST", "/api/v1/daemon/reload", {}),
    ):
        answer = open_daemon.tcp(method, path, body)
        assert answer.status == 403, path
        assert "on the Unix socket alone" in error_of(answer)
    claim = {"v": 1, "instance": "0" * 32, "pid": 1}
    for headers in ({}, {"authorization": f"Bearer {'0' * 64}"}):
        answer = open_daemon.tcp("POST", "/api/v1/attempts/1.0.1/claim", claim, headers)
        assert answer.status == 401
    assert open_daemon.get("/api/v1/daemon")["draining"] is False


def test_supervisors_may_ask_over_tcp(open_daemon: Daemon) -> None:
    assert open_daemon.tcp("GET", "/healthz").body == b"ok\n"


def test_a_port_in_use_is_said_at_the_start_with_the_mend(
    make_daemon: MakeDaemon, served: Served
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        web = {"listen": f"127.0.0.1:{port}"}
        daemon = make_daemon([Repo(served.path)], sections={"web": web})
        daemon.spawn()
        assert daemon.process is not None
        assert daemon.process.wait(timeout=60) == 1
        daemon.process = None
        mend = "stop what listens there, or choose another port"
        assert f"hgcid: [web] listen: 127.0.0.1:{port} is in use ({mend})\n" in daemon.log
        assert not daemon.socket.exists()
        checked = daemon.run("check")
        assert checked.returncode == 2
        assert f"127.0.0.1:{port} is in use ({mend})" in checked.stdout
    # Nothing is left of the attempt: it starts once the port is free.
    daemon.start()
    assert daemon.tcp("GET", "/healthz").status == 200

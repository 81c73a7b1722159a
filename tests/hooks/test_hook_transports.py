"""A push over each transport: the daemon hears of it once, the pusher sees one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pushing import Hg, Server


def pushed(server: Server, alice: Hg, clone: Path, *arguments: str) -> tuple[list[str], dict]:
    """Pushes; returns the lines of hgci that the pusher saw, and the one hint."""
    said = alice("push", *arguments, cwd=clone)
    hints = server.daemon.take()
    assert len(hints) == 1, (said, hints)
    hint = hints[0]
    node = alice.node(clone, "tip")
    assert hint["repo"] == server.path
    assert hint["txid"].startswith("TXN:")
    assert (hint["first"], hint["last"]) == (alice.node(clone, "0"), node)
    lines = [line for line in said.splitlines() if "ci:" in line]
    # A second push of nothing says nothing.
    said = alice("push", *arguments, cwd=clone, status=1)
    assert "ci:" not in said
    assert server.daemon.take() == []
    return lines, hint


def test_over_a_local_path(server: Server, alice: Hg, clone: Path) -> None:
    lines, hint = pushed(server, alice, clone, server.path)
    assert lines == ["ci: push 1 recorded"]
    assert hint["source"] == "push"
    assert hint["url"] == f"file:{server.path}"


def test_over_ssh(server: Server, alice: Hg, clone: Path) -> None:
    lines, hint = pushed(server, alice, clone, *server.ssh(alice.home))
    assert lines == ["remote: ci: push 1 recorded"]
    assert hint["source"] == "serve"
    assert hint["url"] == "remote:ssh:127.0.0.1"


def test_over_hg_serve(server: Server, alice: Hg, clone: Path) -> None:
    with server.serve() as url:
        lines, hint = pushed(server, alice, clone, url)
    assert lines == ["remote: ci: push 1 recorded"]
    assert hint["source"] == "serve"
    assert hint["url"] == "remote:http:127.0.0.1:"


@pytest.mark.parametrize(
    "command",
    [
        ["hgweb_wsgi"],
        ["gunicorn", "--bind=127.0.0.1:0", "--threads=4", "hgweb_wsgi:application"],
    ],
    ids=["wsgiref", "gunicorn"],
)
def test_over_hgweb_under_wsgi(
    full_server: Server, alice: Hg, clone: Path, command: list[str]
) -> None:
    server = full_server
    with server.wsgi(*command) as url:
        lines, hint = pushed(server, alice, clone, url)
        assert lines == ["remote: ci: push 1 recorded"]
        assert hint["source"] == "serve"
        # A WSGI server passes on no REMOTE_HOST, so that the host is empty.
        assert hint["url"] == "remote:http::al%20ice"
        # The same process serves the next push as it did the first.
        node = alice.commit(clone, "two")
        said = alice("push", url, cwd=clone)
    assert "remote: ci: push 2 recorded" in said
    [hint] = server.daemon.take()
    assert (hint["first"], hint["last"]) == (node, node)


@pytest.mark.parametrize("transport", ["path", "ssh", "http"])
def test_the_pusher_sees_what_is_wrong_with_a_pipeline(
    server: Server, alice: Hg, clone: Path, transport: str
) -> None:
    server.daemon.more = [".hgci.toml:3:7: unknown key", "did you mean needs?"]
    if transport == "path":
        said, prefix = alice("push", server.path, cwd=clone), ""
    elif transport == "ssh":
        said, prefix = alice("push", *server.ssh(alice.home), cwd=clone), "remote: "
    else:
        with server.serve() as url:
            said, prefix = alice("push", url, cwd=clone), "remote: "
    wanted = ["push 1 recorded", ".hgci.toml:3:7: unknown key", "did you mean needs?"]
    assert [line for line in said.splitlines() if "ci:" in line] == [
        f"{prefix}ci: {line}" for line in wanted
    ]


def test_push_variables_are_passed_on(full_server: Server, alice: Hg, clone: Path) -> None:
    full_server.hg.configure("[push]\npushvars.server = true\n")
    options = ["--config", "extensions.pushvars=", "--pushvars", "URGENT=yes", "--pushvars", "E="]
    alice("push", *options, *full_server.ssh(alice.home), cwd=clone)
    [hint] = full_server.daemon.take()
    assert hint["pushvars"] == {"URGENT": "yes", "E": ""}


def test_a_push_with_the_daemon_down_is_spooled_and_said(
    server: Server, alice: Hg, clone: Path
) -> None:
    server.daemon.stop()
    said = alice("push", *server.ssh(alice.home), cwd=clone)
    line = "remote: ci: daemon not reachable, push recorded; it will be built later"
    assert line in said.splitlines()
    [file] = (server.repo / ".hg" / "hgci" / "spool").iterdir()
    assert alice.node(clone, "tip") in file.read_text()
    # And the push itself is there.
    assert server.hg.node(server.repo, "tip") == alice.node(clone, "tip")

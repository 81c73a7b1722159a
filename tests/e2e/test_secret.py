"""Changesets that hg shows to nobody: they are not built, and nothing of them is on the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from harness import Clone, Daemon, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon
from harness.smtp import free_port

SECRET = "[phases]\nnew-commit = secret\n"
EVOLUTION = "[experimental]\nevolution = all\n"


def test_a_secret_changeset_is_built_once_it_is_not_secret_any_more(
    daemon: Daemon, served: Served
) -> None:
    served.install("extension", daemon.socket, more=SECRET)
    repo = served.repo
    hidden = repo.commit({".hgci.toml": PASSING})
    [push] = daemon.get("/api/v1/pushes")["items"]
    [push] = eventually(
        lambda: [row for row in daemon.get("/api/v1/pushes")["items"] if row["stage"] == "done"],
        f"the push to be over: {push}",
    )
    assert (push["builds"], push["no-build"]) == ([], "secret changesets are not built")
    refused = repo("ci-run", status=255).said
    assert "secret changesets are not built" in refused
    repo("phase", "--draft", hidden)
    assert daemon.final(hidden)["state"] == "passed"
    # One on top is not built, and does not keep the one below from being built.
    below = repo.commit({"a": "1"})
    above = repo.commit({"a": "2"})
    repo("phase", "--draft", below)
    assert daemon.final(below)["state"] == "passed"
    assert daemon.status(above) is None
    repo("phase", "--public", above)
    assert daemon.final(above)["state"] == "passed"
    nodes = [build["node"] for build in daemon.get("/api/v1/builds")["items"]]
    assert nodes == [above, below, hidden]


def secret(served: Served, node: str) -> None:
    served.repo("phase", "--force", "--secret", node)


def obsolete(served: Served, node: str) -> None:
    served.repo("update", "-q", "null")
    served.repo("debugobsolete", node)


def stripped(served: Served, node: str) -> None:
    served.repo("--config", "extensions.strip=", "strip", "-r", node)


@pytest.mark.parametrize("hide", [secret, obsolete, stripped])
def test_what_hg_does_not_serve_is_not_on_the_network(
    hide: Callable[[Served, str], None], make_daemon: MakeDaemon, served: Served, clone: Clone
) -> None:
    web = {"listen": f"127.0.0.1:{free_port()}"}
    repo = Repo(served.path, more={"public": True})
    daemon = make_daemon([repo], sections={"web": web}).start()
    publish = "[phases]\npublish = no\n"
    served.install("extension", daemon.socket, more=publish + EVOLUTION)
    stays = clone.commit({".hgci.toml": PASSING})
    clone("push")
    daemon.final(stays)
    goes = clone.commit({"a": "1"})
    clone("push")
    daemon.final(goes)

    def get(path: str) -> Any:
        return json.loads(daemon.tcp("GET", f"/api/v1/{path}").body)

    assert [build["node"] for build in get("builds")["items"]] == [goes, stays]
    hide(served, goes)
    eventually(
        lambda: [build["node"] for build in get("builds")["items"]] == [stays],
        "the build to be gone from the network",
    )
    assert [push["push"] for push in get("pushes")["items"] if push["changesets"]] == [1]
    assert get("builds?repo=widgets&node=" + goes)["items"] == []
    assert get(f"status?repo=widgets&node={goes}&node={stays}") == get(
        f"status?repo=widgets&node={stays}"
    )
    paths = [
        "pushes/2",
        "builds/2",
        "builds/2/jobs",
        "builds/2/jobs/test",
        "builds/2/jobs/test/log",
    ]
    for path in ["/api/v1/" + path for path in paths] + ["/p/2", "/b/2", "/b/2/test"]:
        here, there = daemon.tcp("GET", path), daemon.tcp("GET", path.replace("2", "99"))
        assert (here.status, there.status) == (404, 404), path
        assert here.body == there.body.replace(b"99", b"2"), path
        assert daemon.ask("GET", path).status == 200, path
    log = f"/api/v1/log?repo=widgets&job=test&node={goes}"
    unknown = log.replace(goes, "ab" * 20)
    assert daemon.tcp("GET", log).status == 404
    assert daemon.tcp("GET", log).body == daemon.tcp("GET", unknown).body
    assert goes.encode() not in daemon.tcp("GET", "/api/v1/pushes").body
    assert goes.encode() in daemon.ask("GET", "/api/v1/pushes").body

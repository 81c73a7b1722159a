"""The HTTP API: lists and single things, and the document that describes every call."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from harness import Clone, Daemon, Hg, Repo, Served
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import ApiError
from harness.openapi import mistakes
from harness.patience import eventually
from harness.smtp import free_port

TWO_JOBS = """\
version = 1

[job.good]
run = "echo '<script>alert(1)</script>'"

[job.bad]
run = "exit 3"
"""

# The third build, which somebody asks for, does not end by itself.
THREE_JOBS = (
    TWO_JOBS
    + """
[job.slow]
run = 'test "$HGCI_BUILD" -le 2 || sleep 600'
"""
)

Page = dict[str, Any]


def walk(get: Callable[..., Any], path: str, **query: str | int) -> list[Page]:
    """Every page of a list, one after the other."""
    pages = [get(path, **query)]
    while pages[-1]["next"] is not None:
        assert len(pages) < 100
        pages.append(get(path, **query, after=pages[-1]["next"]))
    return pages


def test_lists_are_paged_by_cursor_with_the_newest_first(clone: Clone, daemon: Daemon) -> None:
    nodes = []
    for n in range(5):
        nodes.append(clone.commit({".hgci.toml": PASSING, "n": str(n)}))
        clone("push")
        daemon.final(nodes[-1])
    for path, key in (("/api/v1/pushes", "push"), ("/api/v1/builds", "build")):
        for query in ({}, {"repo": "widgets"}):
            pages = walk(daemon.get, path, limit=2, **query)
            items = [item for page in pages for item in page["items"]]
            assert [item[key] for item in items] == [5, 4, 3, 2, 1]
            assert all(len(page["items"]) <= 2 for page in pages)
            assert {item["repo"] for item in items} == {"widgets"}
    [build] = daemon.get("/api/v1/builds", repo="widgets", node=nodes[1])["items"]
    assert (build["build"], build["node"], build["state"]) == (2, nodes[1], "passed")
    push = daemon.get("/api/v1/pushes/2")
    assert (push["last"], push["builds"], push["via"]) == (nodes[1], [2], "hook")
    # A restart forgets nothing of it.
    daemon.kill()
    daemon.start()
    assert daemon.get("/api/v1/builds", repo="widgets", node=nodes[1])["items"] == [build]
    for path, status in (
        ("/api/v1/builds/99", 404),
        ("/api/v1/pushes/99", 404),
        ("/api/v1/pushes/x", 404),
        ("/api/v1/builds?limit=0", 400),
        ("/api/v1/builds?limit=201", 400),
        ("/api/v1/builds?after=x", 400),
        (f"/api/v1/builds?node={nodes[1]}", 400),
        ("/api/v1/builds?repo=gadgets", 404),
    ):
        with pytest.raises(ApiError) as refused:
            daemon.request("GET", path)
        assert refused.value.status == status, path
        assert json.loads(refused.value.body)["error"]


def test_a_build_has_its_jobs_their_attempts_and_their_logs(clone: Clone, daemon: Daemon) -> None:
    node = clone.commit({".hgci.toml": TWO_JOBS})
    clone("push")
    row = daemon.final(node)
    build = daemon.get("/api/v1/builds/1")
    assert (build["state"], build["node"], build["branch"]) == ("failed", node, "default")
    assert build["ended"] >= build["created"]
    assert build["jobs"] == row["jobs"]
    jobs = [
        item
        for page in walk(daemon.get, "/api/v1/builds/1/jobs", limit=1)
        for item in page["items"]
    ]
    assert {job["name"]: job["state"] for job in jobs} == {"good": "passed", "bad": "failed"}
    bad = daemon.get("/api/v1/builds/1/jobs/bad")
    assert bad in jobs
    [attempt] = bad["attempts"]
    assert (bad["exit"], attempt["state"], attempt["attempt"]) == (3, "failed", 1)
    log = daemon.request("GET", "/api/v1/builds/1/jobs/good/log")
    assert log.endswith(b"<script>alert(1)</script>\n")
    assert (
        daemon.request("GET", f"/api/v1/builds/1/jobs/good/log?offset={len(log) - 4}") == log[-4:]
    )
    assert daemon.request("GET", "/api/v1/builds/1/jobs/good/log?tail=4") == log[-4:]
    assert daemon.request("GET", "/api/v1/builds/1/jobs/good/log?tail=1000000") == log
    with pytest.raises(ApiError, match="an offset, or a tail, not both"):
        daemon.request("GET", "/api/v1/builds/1/jobs/good/log?tail=4&offset=1")
    assert daemon.request("GET", "/b/1/good/log") == log
    for path in ("/api/v1/builds/1/jobs/good/log", "/b/1/good/log"):
        for n in (0, 2):
            with pytest.raises(ApiError, match=f"no attempt {n} of that job; it has 1") as refused:
                daemon.request("GET", f"{path}?attempt={n}")
            assert refused.value.status == 404
    with pytest.raises(ApiError, match=r"no job .* it has: good, bad|no job .* it has: bad, good"):
        daemon.get("/api/v1/builds/1/jobs/ugly")


def test_links_lead_to_something(clone: Clone, daemon: Daemon) -> None:
    node = clone.commit({".hgci.toml": TWO_JOBS})
    clone("push")
    daemon.final(node)
    push = daemon.request("GET", "/p/1").decode()
    assert push.startswith("push 1 to widgets\n")
    assert node in push
    build = daemon.request("GET", "/b/1").decode()
    assert build.startswith("build 1 of widgets: failed\n")
    assert re.search(r"^failed +bad \(exit 3, ", build, re.MULTILINE), build
    assert daemon.request("GET", "/b/1/bad").decode().startswith("job bad of build 1 of widgets\n")


@pytest.fixture
def half_open(make_daemon: MakeDaemon, served: Served, alice: Hg, admin: Hg) -> Daemon:
    """A daemon on TCP with a build of `widgets`, which is public, and one of `gadgets`, which is
    not. Pushes and builds have the numbers 1 and 2."""
    other = Served.create(admin, served.path.parent / "gadgets")
    other.install("extension", served.path.parent.parent / "d" / "s")
    repos = [Repo(served.path, more={"public": True}), Repo(other.path, name="gadgets")]
    web = {"listen": f"127.0.0.1:{free_port()}"}
    daemon = make_daemon(repos, sections={"web": web}).start()
    for repo in repos:
        clone = alice.clone(repo.path, alice.home / repo.name)
        node = clone.commit({".hgci.toml": THREE_JOBS})
        clone("push")
        daemon.final(node, repo)
    return daemon


def test_over_tcp_lists_have_what_is_public_alone(half_open: Daemon) -> None:
    def get(path: str) -> Any:
        return json.loads(half_open.tcp("GET", path).body)

    assert [item["name"] for item in get("/api/v1/repos")["items"]] == ["widgets"]
    assert [item["push"] for item in get("/api/v1/pushes")["items"]] == [1]
    assert [item["build"] for item in get("/api/v1/builds")["items"]] == [1]
    assert get("/api/v1/pushes/1")["user"] is None
    here = [item["name"] for item in half_open.get("/api/v1/repos")["items"]]
    assert here == ["gadgets", "widgets"]
    assert half_open.get("/api/v1/pushes/1")["user"] is not None
    for call in (
        "pushes/{}",
        "builds/{}",
        "builds/{}/jobs",
        "builds/{}/jobs/good",
        "builds/{}/jobs/good/log",
    ):
        assert half_open.tcp("GET", f"/api/v1/{call.format(1)}").status == 200, call
        hidden = half_open.tcp("GET", f"/api/v1/{call.format(2)}")
        missing = half_open.tcp("GET", f"/api/v1/{call.format(3)}")
        assert (hidden.status, missing.status) == (404, 404), call
        assert hidden.body.replace(b"2", b"3") == missing.body
    for page in ("/p/{}", "/b/{}", "/b/{}/good", "/b/{}/good/log"):
        assert half_open.tcp("GET", page.format(1)).status == 200, page
        assert half_open.tcp("GET", page.format(2)).status == 404, page
    for repo in ("gadgets", str(half_open.repos[1].path)):
        assert half_open.tcp("GET", f"/api/v1/builds?repo={repo}").status == 404


def test_what_jobs_wrote_does_nothing_in_a_browser(half_open: Daemon) -> None:
    for path in ("/api/v1/builds/1/jobs/good/log", "/b/1/good/log"):
        log = half_open.tcp("GET", path)
        assert b"<script>" in log.body
        assert log.headers["content-type"] == "application/octet-stream"
        assert log.headers["x-content-type-options"] == "nosniff"
        assert log.headers["content-disposition"].startswith("attachment;")
        assert "sandbox" in log.headers["content-security-policy"]
    page = half_open.tcp("GET", "/b/1")
    assert page.headers["content-type"] == "text/plain; charset=utf-8"
    for path in ("/api/v1/repos", "/healthz", "/nothing"):
        assert half_open.tcp("GET", path).headers["x-content-type-options"] == "nosniff"


IN_PATH = {"{push}": "1", "{build}": "1", "{job}": "good", "{attempt}": "1.0.1"}


def test_the_document_describes_what_is_answered(half_open: Daemon) -> None:
    document = half_open.get("/api/v1/openapi.json")
    node, other = (half_open.get(f"/api/v1/builds/{build}")["node"] for build in (1, 2))
    assert document["openapi"].startswith("3.1.")
    assert half_open.tcp("GET", "/api/v1/openapi.json").status == 200
    [problem] = document["components"]["responses"]["Problem"]["content"].values()
    held = 0
    for path, calls in document["paths"].items():
        real = path
        for name, value in IN_PATH.items():
            real = real.replace(name, value)
        if real in ("/api/v1/status", "/api/v1/log"):
            real += f"?repo=widgets&node={node}&job=good"
        for method, call in calls.items():
            body = None
            if method == "post":
                sent = {"on": False} if path.endswith("/drain") else {}
                if path.endswith("/hints"):
                    sent = {"v": 1, "repo": str(half_open.repos[0].path)}
                if path.endswith(("/run", "/cancel")):
                    sent = {"v": 1, "repo": "widgets", "node": node, "jobs": ["slow"]}
                elif path.endswith("/retry"):
                    sent = {"v": 1, "repo": "gadgets", "node": other}
                body = json.dumps(sent).encode()
            answer = half_open.ask(method.upper(), real, body)
            [(kind, content)] = call["responses"]["200"]["content"].items()
            if "security" in call:
                # It is served, and says what it lacks.
                assert answer.status == 401, real
                kind, content = "application/json", problem
            else:
                assert answer.status == 200, (real, answer.body)
            if kind == "application/json":
                wrong = mistakes(document, content["schema"], json.loads(answer.body), path)
                assert not wrong, "\n".join(wrong)
                held += 1
    assert held > 15
    # What was asked for ends before the daemon does, which runners outlive.
    builds = [item["build"] for item in half_open.get("/api/v1/builds")["items"]]
    assert len(builds) > 2
    eventually(lambda: all(half_open.get(f"/api/v1/builds/{n}")["ended"] for n in builds))
    eventually(lambda: not half_open.attempts_left())
    for method, path, status in (
        ("GET", "/api/v2", 404),
        ("GET", "/", 404),
        ("POST", "/api/v1/repos", 405),
        ("GET", "/api/v1/hints", 405),
    ):
        answer = half_open.ask(method, path)
        assert answer.status == status
        assert not mistakes(document, problem["schema"], json.loads(answer.body), path)

"""Which repositories are served, and which changesets of a push are built."""

from __future__ import annotations

import pytest

from harness import Clone, Hg, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon


@pytest.mark.parametrize(
    ("build", "built"), [("heads", [2, 3]), ("every", [0, 1, 2, 3]), ("tip", [3])]
)
def test_of_a_push_is_built_what_the_repository_says(
    build: str, built: list[int], served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path, more={"build": build})]).start()
    nodes = [clone.commit({".hgci.toml": PASSING})]
    nodes += [clone.commit({name: "1"}) for name in ("one", "two")]
    clone("update", "-q", nodes[1])
    nodes.append(clone.commit({"three": "1"}))
    clone("push", "-f")
    for number in built:
        assert daemon.final(nodes[number])["state"] == "passed"
    rows = daemon.get("/api/v1/builds")["items"]
    assert sorted(row["node"] for row in rows) == sorted(nodes[number] for number in built)


def test_a_path_with_a_star_serves_what_is_there_and_at_a_reload_what_came(
    served: Served, clone: Clone, admin: Hg, alice: Hg, make_daemon: MakeDaemon
) -> None:
    folder = served.path.parent
    # Named by their folders.
    daemon = make_daemon([Repo(folder / "*", name="")])
    daemon.start()

    def names() -> list[str]:
        return [row["name"] for row in daemon.get("/api/v1/repos")["items"]]

    assert names() == ["widgets"]
    node = clone.commit({".hgci.toml": PASSING})
    assert "ci: push 1 recorded" in clone("push").said
    assert daemon.final(node, Repo(served.path))["state"] == "passed"

    other = Served.create(admin, folder / "gadgets")
    other.install("extension", daemon.socket)
    (folder / "no-repository").mkdir()
    done = daemon.run("reload")
    assert done.returncode == 0, done.stderr
    eventually(lambda: names() == ["gadgets", "widgets"], "the new repository to be served")
    new = alice.clone(other.path, alice.home / "gadgets")
    node = new.commit({".hgci.toml": PASSING})
    assert "ci: push 2 recorded" in new("push").said
    assert daemon.final(node, Repo(other.path, name="gadgets"))["state"] == "passed"

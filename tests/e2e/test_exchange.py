"""Results come along with clones and pulls, behind each way that Mercurial has to serve."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Clone, Daemon, Hg, Served
from harness.fixtures import PASSING

FAILING = PASSING.replace('"true"', '"exit 3"')


@contextlib.contextmanager
def reached(transport: str, served: Served, room: Path) -> Iterator[tuple[list[str], str]]:
    """Options for hg and the URL."""
    if transport == "path":
        yield [], str(served.path)
    elif transport == "ssh":
        yield served.ssh(room)
    elif transport == "http":
        with served.http() as url:
            yield [], url
    else:
        with served.wsgi(room) as url:
            yield [], url


@pytest.mark.parametrize(
    ("transport", "how"),
    [("path", []), ("ssh", []), ("http", []), ("wsgi", []), ("wsgi", ["--stream"])],
    ids=["path", "ssh", "http", "wsgi", "wsgi-stream"],
)
def test_results_come_with_a_clone_and_later_with_pulls(
    transport: str,
    how: list[str],
    served: Served,
    daemon: Daemon,
    clone: Clone,
    room: Path,
) -> None:
    first = clone.commit({".hgci.toml": PASSING})
    clone("push")
    daemon.final(first)
    # What comes has to be public: it is looked at by somebody else.
    bob = Hg(room / "bob")
    bob.configure("[extensions]\nhgci =\n")
    second = clone.commit({".hgci.toml": FAILING})
    with reached(transport, served, room) as (options, url):
        theirs = bob.clone(url, room / "bob" / "widgets", *how, *options)
        clone("push")
        daemon.final(second)
        theirs("pull", *options)
        clone("ci-run", "-r", first)
        daemon.wait_for(first, lambda build: build["build"] == 3 and build["state"] == "passed")
        # No changeset is new, but a result.
        theirs("pull", *options)
    # Off line.
    theirs.configure("[paths]\ndefault = http://127.0.0.1:1/\n")
    shown = theirs("log", "-T", "{ci_state} {ci_jobs % '{job}'}\n").out
    assert shown.splitlines()[0].startswith("failed"), shown
    assert shown.splitlines()[1].startswith("passed"), shown
    status, rows = theirs.status_of("-r", first)
    assert (status, {row["build"] for row in rows}) == (0, {3}), rows

"""What hgcid cannot read itself, or nobody can: hg reads it, or the changeset's own build says so,
and all others are built."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness import Clone, Hg, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon
from harness.programs import PYTHON

LOOKING = """\
version = 1

[job.test]
run = "cat .hg_archival.txt; test $(wc -c < large) = 6000"
"""
LFS = "[extensions]\nlfs =\n[lfs]\ntrack = size('>1000')\n"

# Makes children of the tip whose texts are those of the tip, changed; prints their nodes. hg itself
# makes no such changesets; what other programs make, it takes.
CRAFT = """\
import sys
from mercurial import extensions, hg, phases, ui
from mercurial.node import hex

settings = ui.ui()
settings.setconfig(b"phases", b"new-commit", b"draft")
repo = hg.repository(settings, sys.argv[1].encode())
with repo.lock(), repo.transaction(b"craft") as tr:
    log = repo.changelog
    log.delayupdate(tr)
    tip = log.tip()
    manifest, user, date, rest = log.revision(tip).split(b"\\n", 3)
    for kind in sys.argv[2:]:
        new_date, message = {
            "zone": (b"1700000000 EST", b"a zone that is none"),
            "date": (b"never 0", b"a date that is none"),
            "large": (b"1700000000 0", b"x" * (70 << 20)),
        }[kind]
        text = b"\\n".join([manifest, user, new_date, b"", message])
        made = log.addrevision(text, tr, len(log), tip, b"\\0" * 20)
        rev = made if isinstance(made, int) else log.rev(made)
        phases.registernew(repo, tr, phases.draft, [rev])
        print(hex(log.node(rev)).decode())
"""


def craft(repo: Clone, *kinds: str) -> list[str]:
    done = subprocess.run(
        [str(PYTHON), "-c", CRAFT, str(repo.path), *kinds],
        env={**repo.hg.env, "HGRCPATH": ""},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("options", "more", "add", "reason"),
    [
        ([], LFS, [], "the repository has the requirement lfs"),
        (
            [],
            "[extensions]\nlargefiles =\n",
            ["--large"],
            "the repository has the requirement largefiles",
        ),
        (
            ["--config=format.dotencode=no"],
            "",
            [],
            "the repository's store has an old encoding of names",
        ),
    ],
    ids=["lfs", "largefiles", "dotencode"],
)
def test_what_hg_alone_reads_is_built_and_the_jobs_log_says_so(
    options: list[str],
    more: str,
    add: list[str],
    reason: str,
    room: Path,
    admin: Hg,
    make_daemon: MakeDaemon,
) -> None:
    path = room / "srv" / "other"
    admin.run("init", *options, str(path))
    served = Served(admin, path)
    served.install("extension", room / "d" / "s", more=more)
    daemon = make_daemon([Repo(path)]).start()
    served.repo.write({"large": "large\n" * 1000})
    served.repo("add", *add, "large")
    node = served.repo.commit({".hgci.toml": LOOKING})
    assert daemon.final(node)["state"] == "passed"
    log = served.repo("ci-log", "-r", node, "test").out
    assert f"hgci: the source tree was read by hg, which is slower: {reason}\n" in log
    assert f"node: {node}\n" in log


def test_a_repository_that_was_unpacked_from_an_archive_is_built(
    clone: Clone, make_daemon: MakeDaemon, served: Served
) -> None:
    daemon = make_daemon([Repo(served.path)]).start()
    pipeline = PASSING.replace('"true"', '"grep -q another .hg_archival.txt"')
    node = clone.commit({".hgci.toml": pipeline, ".hg_archival.txt": "node: another\n"})
    clone("push")
    assert daemon.final(node)["state"] == "passed"


def test_censored_files_are_what_hg_makes_of_them(served: Served, make_daemon: MakeDaemon) -> None:
    limits = {"free": "1MiB", "requests": 1000000, "retries": 0}
    repos = [Repo(served.path, more={"build": "every"})]
    daemon = make_daemon(repos, sections={"limits": limits}).start()
    daemon.stop()
    repo = served.repo
    first = repo.commit({".hgci.toml": PASSING, "secret": "a secret"})
    second = repo.commit({".hgci.toml": f"{PASSING}# new\n", "secret": "none"})
    third = repo.commit({".hgci.toml": f"{PASSING}# newer\n"})
    censor = ["censor", "--config=extensions.censor=", "-r"]
    repo(*censor, first, "secret")
    repo(*censor, second, str(repo.path / ".hgci.toml"))
    daemon.start()
    assert daemon.final(third)["state"] == "passed"
    # Not the changeset's fault, nor a reason not to build the others.
    row = daemon.final(second)
    assert row["state"] == "errored"
    assert ".hgci.toml cannot be read: " in row["message"]
    assert "censored" in row["message"]
    # Nor is a tree that hg does not give out.
    row = daemon.final(first)
    assert row["state"] == "errored"
    assert "censored" in row["jobs"][0]["why"]


def test_a_tree_with_a_censored_file_is_built_where_the_repository_allows_it(
    served: Served, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path, more={"build": "every"})]).start()
    daemon.stop()
    pipeline = PASSING.replace('"true"', '"test -e secret; test ! -s secret"')
    first = served.repo.commit({".hgci.toml": pipeline, "secret": "a secret"})
    served.repo.commit({"secret": ""})
    served.repo("censor", "--config=extensions.censor=", "-r", first, "secret")
    served.repo.configure("[censor]\npolicy = ignore\n")
    daemon.start()
    assert daemon.final(first)["state"] == "passed"
    assert "this source tree was read by hg" in daemon.log


def test_a_changeset_that_makes_no_sense_ends_as_its_own_build_and_the_others_are_built(
    served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path)]).start()
    clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert daemon.final(clone.node("."))["state"] == "passed"
    daemon.stop()
    zone, date, large = craft(served.repo, "zone", "date", "large")
    daemon.start()
    # Like hg, it takes a zone that is none for UTC.
    assert daemon.final(zone)["state"] == "passed"
    row = daemon.final(date)
    assert row["state"] == "failed"
    assert "the changeset cannot be read: " in row["message"]
    assert "no time in its date" in row["message"]
    row = daemon.final(large)
    assert row["state"] == "failed"
    assert "more than the limit of" in row["message"]
    clone.commit({"more": "1"})
    clone("push", "-f")
    assert daemon.final(clone.node("."))["state"] == "passed"


def test_while_somebody_writes_no_changeset_is_said_to_make_no_sense(
    served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path)]).start()
    clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert daemon.final(clone.node("."))["state"] == "passed"
    daemon.stop()
    [date] = craft(served.repo, "date")
    holder = served.admin.start("debuglocks", "--set-lock", cwd=served.path)
    try:
        eventually((served.path / ".hg" / "store" / "lock").is_symlink, "the lock")
        daemon.start()
        eventually(lambda: daemon.log.count("cannot take in what is new") > 1, "a second try")
        assert daemon.status(date) is None
    finally:
        holder.terminate()
        holder.communicate(timeout=60)
    assert daemon.final(date)["state"] == "failed"


def test_a_pipeline_that_is_a_symlink_is_said_to_be_one(
    served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path)]).start()
    clone.write({"ci.toml": PASSING})
    (clone.path / ".hgci.toml").symlink_to("ci.toml")
    node = clone.commit({"ci.toml": PASSING})
    clone("push")
    row = daemon.final(node)
    assert row["state"] == "failed"
    why = "`.hgci.toml` is a symbolic link; it must be a regular file"
    assert row["message"] == f".hgci.toml:1:1: {why} (put the content itself there)"
    assert why in daemon.run("check").stdout

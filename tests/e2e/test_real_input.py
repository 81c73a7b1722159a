"""A real project: Mercurial's own sources, and a part of its own test suite as the job."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import Hg, Pool, Repo, Served
from harness.fixtures import MakeDaemon
from harness.programs import HG_TESTS, ROOT, VENV

# Each takes less than a second on an idle machine, and needs nothing but hg and a shell.
TESTS = [
    "test-bad-pull.t",
    "test-diff-hashes.t",
    "test-diff-issue2761.t",
    "test-diff-newlines.t",
    "test-diff-reverse.t",
    "test-empty-dir.t",
    "test-empty-file.t",
    "test-issue522.t",
    "test-issue612.t",
    "test-unrelated-pull.t",
]
PIPELINE = """\
version = 1

[job.test]
run = [
    "mkdir -p report",
    "cd tests && {python} ./run-tests.py -j2 --with-hg {hg} --xunit ../report/junit.xml {tests}",
]
reports = ["report/*.xml"]
timeout = "8m"
"""


def python_home() -> Path:
    """Where the interpreter of the venv and its library are."""
    command = [str(VENV / "bin" / "python"), "-c", "import sys; print(sys.base_prefix)"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


@pytest.mark.timeout(600)
def test_a_part_of_mercurials_own_test_suite_is_run_and_counted(
    admin: Hg, alice: Hg, room: Path, make_daemon: MakeDaemon
) -> None:
    work = alice.init(room / "alice" / "hg")
    shutil.copytree(HG_TESTS, work.path, dirs_exist_ok=True)
    # Left by the source release, and none of a repository's business.
    (work.path / "PKG-INFO").unlink(missing_ok=True)
    pipeline = PIPELINE.format(
        python=VENV / "bin" / "python", hg=VENV / "bin" / "hg", tests=" ".join(TESTS)
    )
    node = work.commit({".hgci.toml": pipeline}, "the sources of Mercurial")
    served = Served.create(admin, room / "srv" / "hg")
    # Out of sight of a sandbox but for what the pool names: here a Python with Mercurial.
    readonly = sorted({str(ROOT / "build" / "venv"), str(python_home())} - {"/usr"})
    pool = Pool(more={"readonly": readonly})
    daemon = make_daemon([Repo(served.path, name="hg")], [pool]).start()
    served.install("extension", daemon.socket)
    with served.http() as url:
        assert "ci: push 1 recorded" in work("push", url).said
    row = daemon.final(node, seconds=500)
    status, [seen] = work.status_of("-R", str(served.path), "-r", node)
    log = work("ci-log", "-R", str(served.path), "-r", node, "test").out
    assert (row["state"], status) == ("passed", 0), log[-4000:]
    counts = seen["jobs"][0]["tests"]
    assert counts["failed"] == 0, log[-4000:]
    assert counts["passed"] + counts["skipped"] == len(TESTS)
    assert counts["passed"] >= len(TESTS) - 2, log[-4000:]
    assert os.path.lexists(served.path / ".hg" / "hgci" / "results")

"""The examples that people paste, run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import Clone, Repo, Served
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import SPOOLED
from harness.programs import HG, HOOK, ROOT, SEARCH_PATH

EXAMPLE = ROOT / "hgrc.example"


def push_where_run_is(folder: Path, served: Served, clone: Clone, path: str) -> str:
    """Pushes from a place where /run/hgci is `folder`."""
    command = ["bwrap", "--dev-bind", "/", "/", "--tmpfs", "/run", "--bind", str(folder)]
    command += ["/run/hgci", "--chdir", str(clone.path), str(HG), "push", str(served.path)]
    done = subprocess.run(
        command,
        env={**clone.hg.env, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["extension", "hook"])
def test_hgrc_example_connects_a_repository_as_it_stands(
    kind: str, served: Served, clone: Clone, make_daemon: MakeDaemon, room: Path
) -> None:
    # The socket is bound where the daemon runs, and called /run/hgci/hgcid.sock by the example.
    daemon = make_daemon([Repo(served.path)])
    daemon.socket = daemon.folder / "hgcid.sock"
    daemon.start()
    text = EXAMPLE.read_text()
    path = SEARCH_PATH
    if kind == "hook":
        # What the last comment says: without the extension, the hook alone.
        text = text.replace("[extensions]\nhgci =\n", "")
        text = re.sub(r"^# (\[hooks\]|txnclose\.hgci.*)$", r"\1", text, flags=re.MULTILINE)
        assert "\ntxnclose.hgci" in text
        (room / "bin").mkdir()
        shutil.copy(HOOK, room / "bin" / "hgci-hook")
        path = f"{room / 'bin'}{os.pathsep}{path}"
    served.hgrc.write_text(text)
    node = clone.commit({".hgci.toml": PASSING})
    # With the deadline as it comes, a busy disk may send one of them to the spool.
    for number in range(10):
        said = push_where_run_is(daemon.folder, served, clone, path)
        if re.search(r"ci: push \d+ recorded\n", said):
            break
        assert SPOOLED in said, said
        node = clone.commit({f"again{number}": ""})
    else:
        raise AssertionError(f"no push reached the daemon: {said}")
    assert daemon.final(node)["state"] == "passed"


def test_make_install_puts_everything_below_its_prefix(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "install", f"DESTDIR={tmp_path}", "PREFIX=/opt/hgci"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    prefix = tmp_path / "opt" / "hgci"
    for program in ("hgcid", "hgci", "hgci-hook", "hgci-runner"):
        version = subprocess.run([prefix / "bin" / program, "--version"], capture_output=True)
        assert version.returncode == 0, program
    unit = (prefix / "lib" / "systemd" / "system" / "hgcid.service").read_text()
    assert "ExecStart=/opt/hgci/bin/hgcid serve" in unit
    assert "@PREFIX@" not in unit
    assert [path.name for path in tmp_path.iterdir()] == ["opt"]


@pytest.mark.parametrize("program", ["hgci-hook", "hgci-runner"])
def test_what_is_carried_elsewhere_is_linked_statically(program: str) -> None:
    done = subprocess.run(
        ["ldd", str(HOOK.parent / program)], capture_output=True, text=True, check=False
    )
    assert "statically linked" in done.stdout or "not a dynamic" in done.stdout + done.stderr

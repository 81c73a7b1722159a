"""The examples that people paste, run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from harness import Clone, Repo, Served
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import SPOOLED
from harness.programs import HG, HGCID, HOOK, ROOT, SEARCH_PATH, VENV

EXAMPLE = ROOT / "hgrc.example"
COMPLETIONS = [
    (shell, folder, name.format(program))
    for shell, folder, name in (
        ("bash", "bash-completion/completions", "{}"),
        ("zsh", "zsh/site-functions", "_{}"),
        ("fish", "fish/vendor_completions.d", "{}.fish"),
    )
    for program in ("hgci", "hgcid")
]


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
    for page in (prefix / "share" / "man").rglob("*.*"):
        assert "\n.SH NAME\n" in page.read_text(), page
    man = {page.name for page in (prefix / "share" / "man").rglob("*.*")}
    assert {"hgcid.8", "hgci.1", "hgci-hook.8"} <= man
    for shell, folder, name in COMPLETIONS:
        script = prefix / "share" / folder / name
        assert script.stat().st_size > 1000, script
        if shutil.which(shell):
            assert subprocess.run([shell, "-n", script]).returncode == 0, script


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this system has no systemd")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    unit = tmp_path / "hgcid.service"
    text = (ROOT / "packaging" / "hgcid.service").read_text()
    unit.write_text(text.replace("@PREFIX@/bin", str(HGCID.parent)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if "hgcid.service" in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_the_extension_is_installed_as_the_readme_says(tmp_path: Path) -> None:
    """`pip install ./hgext` where nothing is but pip: it brings its own tools to build with."""
    target = os.environ.get("HGCI_HGEXT_TARGET", str(ROOT / "target" / "hgext"))
    done = subprocess.run(
        [
            VENV / "bin" / "python",
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            tmp_path,
            "./hgext",
        ],
        cwd=ROOT,
        env={**os.environ, "CARGO_TARGET_DIR": target},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "hgext3rd/hgci/__init__.py" in names
    assert "hgext3rd/__init__.py" not in names
    assert [name for name in names if name.endswith(".abi3.so")] == [
        "hgext3rd/hgci/_native.abi3.so"
    ]


@pytest.mark.parametrize("program", ["hgci-hook", "hgci-runner"])
def test_what_is_carried_elsewhere_is_linked_statically(program: str) -> None:
    done = subprocess.run(
        ["ldd", str(HOOK.parent / program)], capture_output=True, text=True, check=False
    )
    assert "statically linked" in done.stdout or "not a dynamic" in done.stdout + done.stderr

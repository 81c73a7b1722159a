"""The wheel of the extension: what is in it, and that a bare clone is enough to build it."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from pushing import HG, ROOT, Hg

PYTHON = Path(HG).parent / "python"
SOURCES = ROOT / "hgext" / "hgext3rd"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what a clone has: no hg-core, nothing that was made before."""
    folder = tmp_path_factory.mktemp("clone")
    made = shutil.ignore_patterns("target", "build", "third_party", ".git", "*.so", "__pycache__")
    shutil.copytree(ROOT, folder / "hgci", ignore=made)
    out = folder / "out"
    env = {**os.environ, "PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"}
    # One folder for all builds of the extension, so that what it needs is compiled once.
    if "HGCI_HGEXT_TARGET" in os.environ:
        env["CARGO_TARGET_DIR"] = os.environ["HGCI_HGEXT_TARGET"]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(out)]
    done = subprocess.run(
        [PYTHON, "-m", "pip", "wheel", *options, "./hgext"],
        cwd=folder / "hgci",
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    [wheel] = out.iterdir()
    return wheel


def test_the_wheel_has_the_extension_and_nothing_of_mercurials(wheel: Path) -> None:
    # The stable ABI of Python 3.9: one wheel for that version and all later ones.
    assert "-cp39-abi3-" in wheel.name
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {name for name in names if ".dist-info/" not in name}
    files = [*SOURCES.rglob("*.py"), *SOURCES.glob("hgci/templates/*")]
    named = {str(path.relative_to(SOURCES.parent)) for path in files}
    assert code == named | {"hgext3rd/hgci/_native.abi3.so"}
    assert "hgext3rd/hgci/templates/paper.tmpl" in code
    # The name space package is Mercurial's own; a second one would hide other extensions.
    assert "hgext3rd/__init__.py" not in names


def test_hg_names_the_version_of_the_wheel(wheel: Path, admin: Hg) -> None:
    said = admin("--config", "extensions.hgci=", "version", "-v")
    [line] = [line for line in said.splitlines() if line.strip().startswith("hgci")]
    assert wheel.name.split("-")[1] in line.split()


def test_hg_help_tells_of_the_extension(admin: Hg) -> None:
    said = admin("--config", "extensions.hgci=", "help", "hgci")
    assert "continuous integration that lives inside Mercurial" in said
    assert "socket = /run/hgci/hgcid.sock" in said

"""Where the programs under test are, as `make build` leaves them. HGCI_TEST_HG names another hg,
in a Python that has the extension."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
VENV = ROOT / "build" / "venv"
HG = Path(os.environ.get("HGCI_TEST_HG", VENV / "bin" / "hg"))
PYTHON = HG.parent / "python"
HG_TESTS = ROOT / "build" / "hg-tests"

HGCID = TARGET / "hgcid"
HGCI = TARGET / "hgci"
HOOK = TARGET / "hgci-hook"
RUNNER = TARGET / "hgci-runner"

# First a bubblewrap that the build may have brought along.
SEARCH_PATH = os.pathsep.join(
    [str(ROOT / "build" / "tools" / "bin"), str(HG.parent), os.environ.get("PATH", "/usr/bin:/bin")]
)

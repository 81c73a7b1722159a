"""A daemon with an account of its own, set up as docs/server.md says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .hgcid import Daemon
from .programs import HGCID, SEARCH_PATH
from .serving import Served

# An account that every system has, which is in the group of those who push. Nobody needs a name
# for that.
ACCOUNT = "daemon"
PUSHERS = 64010

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can have another account run something"
)


def give_account(daemon: Daemon, served: list[Served], room: Path) -> None:
    """Makes repositories those of a group, and a daemon that is not yet started one of its
    members."""
    (room / "srv").chmod(0o755)
    for repo in served:
        subprocess.run(["chgrp", "-R", str(PUSHERS), repo.path], check=True)
        subprocess.run(["chmod", "-R", "g+rwX", repo.path], check=True)
        for folder in [repo.path, *(path for path in repo.path.rglob("*") if path.is_dir())]:
            folder.chmod(0o2775)
    shutil.chown(daemon.folder, ACCOUNT)
    daemon.account = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": [PUSHERS]}
    # Programs where everybody may run them: a checkout may lie in somebody's home.
    programs = room / "bin"
    programs.mkdir()
    for name in ("hgcid", "hgci-runner"):
        shutil.copy(HGCID.with_name(name), programs)
    shutil.copy(shutil.which("bwrap", path=SEARCH_PATH) or "bwrap", programs)
    daemon.program = programs / "hgcid"
    daemon.env["PATH"] = f"{programs}:/usr/bin:/bin"

"""Accounts that run hg, with nothing of this machine's configuration, and their repositories."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from .programs import HG, SEARCH_PATH

Content = Union[str, bytes]


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that a person saw."""
        return self.out + self.err


@dataclass
class Hg:
    """Somebody who runs hg: a home with an hgrc, a name, an environment."""

    home: Path
    user: str = "alice <alice@example.org>"
    plain: bool = True
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)

    @property
    def env(self) -> dict[str, str]:
        env = {
            "PATH": SEARCH_PATH,
            "HOME": str(self.home),
            "HGRCPATH": str(self.home / ".hgrc"),
            "HGUSER": self.user,
            "HGENCODING": "UTF-8",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        if self.plain:
            env["HGPLAIN"] = "1"
        return {**env, **self.extra}

    def configure(self, text: str) -> None:
        """Appends to this account's hgrc."""
        with (self.home / ".hgrc").open("a") as hgrc:
            hgrc.write(text)

    def start(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        """Starts hg in a process group of its own."""
        return subprocess.Popen(
            [str(HG), *arguments],
            cwd=cwd or self.home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(
        self,
        *arguments: str,
        cwd: Path | None = None,
        status: int | None = 0,
        env: Mapping[str, str] | None = None,
    ) -> Done:
        """Runs hg; `status` is what it must end with, `None` if that is for the caller to judge."""
        done = subprocess.run(
            [str(HG), *arguments],
            cwd=cwd or self.home,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=180,
            check=False,
        )
        if status is not None:
            command = " ".join(arguments)
            assert done.returncode == status, f"hg {command}: {done.stdout}{done.stderr}"
        return Done(done.returncode, done.stdout, done.stderr)

    def init(self, path: Path) -> Clone:
        self.run("init", str(path))
        return Clone(self, path)

    def clone(self, source: Union[str, Path], path: Path, *options: str) -> Clone:
        self.run("clone", "-q", *options, str(source), str(path))
        return Clone(self, path)


@dataclass
class Clone:
    """A repository that an account works in."""

    hg: Hg
    path: Path

    def __call__(
        self, *arguments: str, status: int | None = 0, env: Mapping[str, str] | None = None
    ) -> Done:
        return self.hg.run(*arguments, cwd=self.path, status=status, env=env)

    def configure(self, text: str) -> None:
        """Appends to the repository's own hgrc."""
        with (self.path / ".hg" / "hgrc").open("a") as hgrc:
            hgrc.write(text)

    def write(self, files: Mapping[str, Content]) -> None:
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Mapping[str, Content], message: str = "", *options: str) -> str:
        """Commits these contents, and returns the node."""
        self.write(files)
        self("commit", "-q", "-A", "-m", message or f"change {', '.join(files)}", *options)
        return self.node(".")

    def node(self, rev: str = "tip") -> str:
        return self("log", "-r", rev, "-T", "{node}").out

    def nodes(self, revset: str = "all()") -> list[str]:
        return self("log", "-r", revset, "-T", "{node}\n").out.split()

    def push_unheard(self, *arguments: str) -> Done:
        """Pushes over a path with our hooks off. In such a push both ends are one process, which
        would load the extension from the pusher's own configuration."""
        return self("push", "--config=extensions.hgci=!", *arguments)

    def status_of(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        """Exit status and rows of `hg ci-status -T json`."""
        done = self("ci-status", "-T", "json", *arguments, status=None)
        assert done.out.strip(), done.said
        return done.status, json.loads(done.out)


def account_exists(name: str) -> bool:
    """Whether tests that need another account of this machine can run: as root, if it is there."""
    if os.geteuid() != 0:
        return False
    return subprocess.run(["id", name], capture_output=True, check=False).returncode == 0

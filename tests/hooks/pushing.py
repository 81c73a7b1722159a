"""Real hg on both sides, and a small server that speaks the daemon's part of a hook.

The programs are those that `make build` makes; HGCI_TEST_HG and HGCI_TEST_HOOK name others.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from harness.serving import listening

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
HG = os.environ.get("HGCI_TEST_HG", str(ROOT / "build" / "venv" / "bin" / "hg"))
HOOK = os.environ.get("HGCI_TEST_HOOK", str(TARGET / "release" / "hgci-hook"))

# Long enough for any machine; the deadline itself has tests of its own.
PATIENT = "60s"

Hint = dict[str, Any]


class Daemon:
    """Takes hints on a Unix socket. Like hgcid it numbers transactions, not calls."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.hints: list[Hint] = []
        self.more: list[str] = []
        self.numbers: dict[str, int] = {}
        self.delay = 0.0
        self.nothing_new: Callable[[Hint], bool] = lambda hint: False
        self._server: socketserver.BaseServer | None = None

    def start(self) -> None:
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                assert self.path == "/api/v1/hints"
                hint = json.loads(self.rfile.read(int(self.headers["content-length"])))
                answer = json.dumps(daemon.answer(hint)).encode()
                self.wfile.write(
                    b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer)
                )

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            block_on_close = False

        self.socket.unlink(missing_ok=True)
        self._server = Server(str(self.socket), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, hint: Hint) -> dict[str, Any]:
        time.sleep(self.delay)
        self.hints.append(hint)
        if self.nothing_new(hint):
            return {"push": None, "line": "", "more": []}
        number = self.numbers.setdefault(hint["txid"], len(self.numbers) + 1)
        return {"push": number, "line": f"push {number} recorded", "more": self.more}

    def take(self) -> list[Hint]:
        """The hints since the last call."""
        taken, self.hints = self.hints, []
        return taken


@dataclass
class Hg:
    """An account that runs hg: its configuration and where it works."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, cwd: Path | None = None, status: int = 0) -> str:
        """Runs hg and returns what a person sees: stdout and stderr."""
        done = subprocess.run(
            [HG, *arguments],
            cwd=cwd or self.home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    @property
    def env(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "HGRCPATH": str(self.home / "hgrc"),
            "HGUSER": "test",
            "HGPLAIN": "1",
            **self.environ,
        }

    def configure(self, text: str) -> None:
        with (self.home / "hgrc").open("a") as hgrc:
            hgrc.write(text)

    def commit(self, repo: Path, name: str) -> str:
        """Commits a new file and returns the node."""
        (repo / name).write_text(name)
        self("commit", "-q", "-A", "-m", f"add {name}", cwd=repo)
        return self.node(repo, ".")

    def node(self, repo: Path, rev: str) -> str:
        return self("log", "-r", rev, "-T", "{node}", cwd=repo)


@dataclass
class Server:
    """A served repository, with one of both hooks, its own account and ways to reach it."""

    hg: Hg
    repo: Path
    daemon: Daemon
    kind: str

    @property
    def path(self) -> str:
        return str(self.repo)

    def ssh(self, folder: Path) -> list[str]:
        """Options and URL of a push by ssh, as user and host that sshd would see."""
        script = folder / "ssh"
        server = " ".join(f"{k}={shlex.quote(v)}" for k, v in self.hg.env.items())
        # sshd gives the command to a shell of the account, with an environment of its own.
        script.write_text(
            f'#!/bin/sh\nshift\nexec env -i {server} SSH_CLIENT="127.0.0.1 1 2" sh -c "$*"\n'
        )
        script.chmod(0o755)
        options = [f"--ssh={script}", f"--remotecmd={HG}"]
        return [*options, f"ssh://user@host/{self.repo}"]

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """`hg serve`, and its URL."""
        command = [HG, "serve", "--port", "0", "--address", "127.0.0.1"]
        with listening(command, self.hg.env, self.repo) as url:
            yield url

    @contextlib.contextmanager
    def wsgi(self, *command: str) -> Iterator[str]:
        """hgweb under a WSGI server that is a Python module, and its URL."""
        here = Path(__file__).parent
        env = {**self.hg.env, "HGCI_TEST_REPO": self.path, "PYTHONPATH": str(here)}
        with listening([str(Path(HG).parent / "python"), "-m", *command], env, self.hg.home) as url:
            yield url


def install(repo: Path, kind: str, socket: Path) -> None:
    """What an administrator writes into the served repository's own hgrc."""
    if kind == "extension":
        text = f"[extensions]\nhgci =\n[hgci]\nsocket = {socket}\ndeadline = {PATIENT}\n"
    else:
        hook = f"{HOOK} --deadline {PATIENT}"
        text = f"[hooks]\n{kind}.hgci = {hook}\n[hgci]\nsocket = {socket}\n"
    (repo / ".hg" / "hgrc").write_text(text)


def make_server(kind: str, admin: Hg, daemon: Daemon) -> Server:
    repo = admin.home / "widgets"
    admin("init", str(repo))
    install(repo, kind, daemon.socket)
    return Server(admin, repo, daemon, kind)

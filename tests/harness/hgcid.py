"""The daemon: its configuration, its life and its API on the Unix socket."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from .patience import LONG, eventually
from .programs import HGCID, SEARCH_PATH

Value = Union[str, int, bool, list[str]]
# What a pusher is told when the daemon does not answer.
SPOOLED = "ci: daemon not reachable, push recorded; it will be built later"
FINAL = {"passed", "failed", "errored", "timed-out", "cancelled", "superseded", "skipped"}


@dataclass
class Repo:
    """A `[[repo]]`."""

    path: Path
    name: str = "widgets"
    more: dict[str, Value] = field(default_factory=dict)


@dataclass
class Pool:
    """A `[[pool]]`."""

    name: str = "here"
    slots: int = 2
    isolation: str = "sandbox"
    more: dict[str, Value] = field(default_factory=dict)


class ApiError(AssertionError):
    """An answer that is not 2xx."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


@dataclass
class Answer:
    """An answer, whatever its status."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("hgcid", timeout=LONG)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _call(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
) -> Answer:
    try:
        given = {"content-type": "application/json"} if body is not None else {}
        connection.request(method, path, body, {**given, **headers})
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())
    finally:
        connection.close()


class Daemon:
    """hgcid in a folder of its own: `hgcid.toml`, `state/`, `s` (the socket), `hgcid.log`."""

    def __init__(
        self,
        folder: Path,
        repos: list[Repo],
        pools: list[Pool] | None = None,
        sections: dict[str, dict[str, Value]] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "hgcid.toml"
        self.state = folder / "state"
        self.socket = folder / "s"
        self.log_file = folder / "hgcid.log"
        self.repos = repos
        self.pools = [Pool()] if pools is None else pools
        # A test's machine may be nearly full, and tests ask often: both have tests of their own.
        self.sections = {"limits": {"free": "1MiB", "requests": 1000000}, **(sections or {})}
        self.env = {"PATH": SEARCH_PATH, "HOME": str(folder), "LC_ALL": "C.UTF-8", **(env or {})}
        # Where another program stands beside it than the runner, that is another copy.
        self.program = HGCID
        self.process: subprocess.Popen[bytes] | None = None

    def write_config(self) -> None:
        def rows(values: dict[str, Value]) -> list[str]:
            return [f"{key} = {json.dumps(value)}" for key, value in values.items()]

        lines = rows({"state": str(self.state), "socket": str(self.socket)})
        for name, values in self.sections.items():
            lines += ["", f"[{name}]", *rows(values)]
        for repo in self.repos:
            values = {"name": repo.name, "path": str(repo.path), **repo.more}
            lines += ["", "[[repo]]", *rows(values)]
        for pool in self.pools:
            values = {
                "name": pool.name,
                "kind": "local",
                "slots": pool.slots,
                "isolation": pool.isolation,
                **pool.more,
            }
            lines += ["", "[[pool]]", *rows(values)]
        self.config.write_text("\n".join(lines) + "\n")

    def hold_to_permissions(self) -> None:
        """From its next start on it has no right to read and write what files forbid, though it may
        be root's."""
        if os.geteuid() == 0:
            program = self.folder / "hgcid"
            without = "--bounding-set=-dac_override,-dac_read_search"
            program.write_text(f'#!/bin/sh\nexec setpriv {without} {HGCID} "$@"\n')
            program.chmod(0o755)
            self.program = program

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of hgcid to its end: `status`, `check`, …"""
        return subprocess.run(
            [str(self.program), *arguments, "--config", str(self.config)],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=False,
        )

    def spawn(self) -> None:
        """Starts `hgcid serve` and does not wait for it."""
        self.write_config()
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.program), "serve", "--config", str(self.config)],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self) -> Daemon:
        """Starts it and waits until it answers."""
        self.spawn()
        eventually(self._answers, "hgcid to answer")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"hgcid ended: {self.log}"
        try:
            self.request("GET", "/healthz")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def stop(self) -> None:
        """SIGTERM, and waits for the end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and waits for the end."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(timeout=LONG)
        self.process = None
        if number == signal.SIGTERM:
            assert status == 0, f"hgcid ended with {status}: {self.log}"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """A call on the socket, and its answer, whatever its status."""
        return _call(_Connection(self.socket), method, path, body, {})

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """A call on the socket, repeated while the daemon says 503; the body of its answer."""

        def answered() -> Answer | None:
            answer = self.ask(method, path, body)
            return None if answer.status == 503 else answer

        answer = eventually(answered, f"an answer to {method} {path} that is not 503")
        if answer.status >= 300:
            raise ApiError(answer.status, answer.body.decode(errors="replace"))
        return answer.body

    def tcp(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """A call on the port of `[web] listen`, with JSON as its body where there is one."""
        host, port = str(self.sections["web"]["listen"]).rsplit(":", 1)
        sent = None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection(host, int(port), timeout=LONG)
        return _call(connection, method, path, sent, headers or {})

    def get(self, path: str, **query: Union[str, int, Path]) -> Any:
        text = urllib.parse.urlencode({key: str(value) for key, value in query.items()})
        return json.loads(self.request("GET", f"{path}?{text}" if text else path))

    def status(self, node: str, repo: Repo | None = None) -> dict[str, Any] | None:
        """The newest build of a changeset, `None` when it has none."""
        repo = repo or self.repos[0]
        rows = self.get("/api/v1/status", repo=os.path.realpath(repo.path), node=node)
        return rows[0] if rows else None

    def wait_for(self, node: str, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Waits until a build of a changeset is as it is wanted."""

        def look() -> dict[str, Any] | None:
            found = self.status(node)
            return found if found and wanted(found) else None

        return eventually(look, f"the build of {node}")

    def final(self, node: str, repo: Repo | None = None, seconds: float = LONG) -> dict[str, Any]:
        """Waits for the end of the build of a changeset."""

        def look() -> dict[str, Any] | None:
            found = self.status(node, repo)
            return found if found and found["state"] in FINAL else None

        try:
            return eventually(look, f"the end of the build of {node}", seconds)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{self.status(node, repo)}\n{self.log[-6000:]}"
            ) from None

    def attempts_left(self) -> list[str]:
        """Folders of attempts that still exist."""
        work = self.state / "work"
        return sorted(path.name for path in work.iterdir()) if work.is_dir() else []

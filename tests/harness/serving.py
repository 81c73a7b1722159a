"""A repository on a server, behind each of Mercurial's transports."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .people import Clone, Hg
from .programs import HG, HOOK, PYTHON

WSGI = """\
from mercurial.hgweb import hgweb

inner = hgweb({path!r})


def application(environ, start_response):
    # What the login in front of hgweb says; it is taken on trust here.
    user = environ.get("HTTP_X_TEST_USER", {user!r})
    if user:
        environ["REMOTE_USER"] = user
    return inner(environ, start_response)
"""


@dataclass
class Served:
    """A served repository and the account that serves it."""

    admin: Hg
    path: Path

    @classmethod
    def create(cls, admin: Hg, path: Path) -> Served:
        admin.run("init", str(path))
        return cls(admin, path)

    @property
    def repo(self) -> Clone:
        """The repository, as its administrator works in it."""
        return Clone(self.admin, self.path)

    @property
    def hgrc(self) -> Path:
        return self.path / ".hg" / "hgrc"

    def install(self, kind: str, socket: Path, deadline: str = "60s", more: str = "") -> None:
        """What an administrator writes into the repository's hgrc.

        `kind` is `extension`, or the hook that runs hgci-hook: `txnclose` or `changegroup`. The
        deadline is long, so that no slow machine sends a test's push to the spool.
        """
        text = "[web]\npush_ssl = no\nallow-push = *\n"
        if kind == "extension":
            text += f"[extensions]\nhgci =\n[hgci]\nsocket = {socket}\ndeadline = {deadline}\n"
        else:
            command = f"{HOOK} --deadline {deadline}"
            text += f"[hooks]\n{kind}.hgci = {command}\n[hgci]\nsocket = {socket}\n"
        self.hgrc.write_text(text + more)

    def uninstall(self) -> None:
        """Hooks off; pushing stays allowed."""
        self.hgrc.write_text("[web]\npush_ssl = no\nallow-push = *\n")

    def ssh(self, folder: Path) -> tuple[list[str], str]:
        """Options and URL for hg over ssh, with a script in the place of ssh: what sshd gives to
        a shell of the account, without the network."""
        script = folder / "ssh"
        server = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.admin.env.items())
        script.write_text(
            f'#!/bin/sh\nshift\nexec env -i {server} SSH_CLIENT="127.0.0.1 1 2" sh -c "$*"\n'
        )
        script.chmod(0o755)
        options = [f"--config=ui.ssh={script}", f"--config=ui.remotecmd={HG}"]
        return options, f"ssh://user@host/{self.path}"

    @contextlib.contextmanager
    def http(self) -> Iterator[str]:
        """`hg serve` until the end of the block; yields the URL."""
        command = [str(HG), "serve", "--address", "127.0.0.1", "--port", "0"]
        with listening(command, self.admin.env, self.path) as url:
            yield url

    @contextlib.contextmanager
    def wsgi(self, folder: Path, user: str | None = None) -> Iterator[str]:
        """hgweb under gunicorn, behind a login that is taken on trust; yields the URL."""
        (folder / "served.py").write_text(WSGI.format(path=bytes(self.path), user=user))
        command = [str(PYTHON), "-m", "gunicorn", "--bind", "127.0.0.1:0", "--threads", "2"]
        # gunicorn would put its control socket into the account's home.
        env = {**self.admin.env, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"}
        with listening([*command, "served:application"], env, folder) as url:
            yield url


@contextlib.contextmanager
def listening(command: list[str], env: dict[str, str], cwd: Path) -> Iterator[str]:
    """Runs a server until the end of the block; yields the URL that it says it listens at."""
    process = subprocess.Popen(
        command,
        env={**env, "PYTHONUNBUFFERED": "1"},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"http://[^/:]+:(\d+)", line):
                # Never by name: that would ask a resolver.
                yield f"http://127.0.0.1:{found[1]}/"
                return
        raise AssertionError(f"the server ended: {''.join(said)}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

"""Served repositories, a daemon and somebody who pushes, for one subject."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sampling import Ran, expect, run

from harness import Clone, Daemon, Hg, Pool, Repo, Served
from harness.places import place, short_socket
from harness.programs import HG, HOOK

TIMING = Path(__file__).with_name("timing.py")


@dataclass(frozen=True)
class Call:
    """A hook that ran within hg, or the loading of an extension: by the clock of the machine."""

    name: str
    started: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.started


@dataclass(frozen=True)
class Pushed:
    """A push that was made."""

    ran: Ran
    calls: list[Call]

    def call(self, name: str) -> Call:
        found = [call for call in self.calls if call.name == name]
        expect(len(found) == 1, f"{name} ran {len(found)} times in a push: {self.ran.said}")
        return found[0]


@dataclass
class Room:
    """A folder of build/ and what is in it. Everything is stopped and removed at the end."""

    folder: Path
    socket: Path
    admin: Hg
    alice: Hg
    daemons: list[Daemon] = field(default_factory=list)

    def served(self, name: str, kind: str | None, publish: bool = True) -> Served:
        """A served repository with a hook: `extension`, `txnclose`, `noop` or none."""
        served = Served.create(self.admin, self.folder / "srv" / name)
        # A push that publishes writes into the pusher's repository as well, the first time.
        more = "" if publish else "[phases]\npublish = no\n"
        if kind is None or kind == "noop":
            served.uninstall()
            if kind:
                more += "[hooks]\ntxnclose.hgci = true\n"
            served.hgrc.write_text(served.hgrc.read_text() + more)
        else:
            served.install(kind, self.socket, deadline="300ms", more=more)
        return served

    def daemon(self, repos: Sequence[Served], pools: Sequence[Pool], **more: str) -> Daemon:
        """A daemon for these repositories, not yet started."""
        rows = [Repo(served.path, served.path.name, dict(more)) for served in repos]
        daemon = Daemon(self.folder / f"d{len(self.daemons)}", rows, list(pools))
        daemon.socket = self.socket
        # The product limits calls of an account; here one account is a whole company.
        daemon.sections = {"limits": {"free": "1MiB", "requests": 1000000}}
        self.daemons.append(daemon)
        return daemon

    def clone(self, name: str) -> Clone:
        """A new repository of whoever pushes."""
        return self.alice.init(self.folder / "alice" / name)

    def push(self, clone: Clone, served: Served, rev: str = "tip", **options: str) -> Pushed:
        """Pushes, and tells which hooks ran for how long. Both ends are one process."""
        times = self.folder / "times"
        times.unlink(missing_ok=True)
        command = [HG, "push", "-r", rev, f"--config=extensions.timing={TIMING}"]
        command += [
            f"--config={name.replace('__', '.')}={value}" for name, value in options.items()
        ]
        env = {**clone.hg.env, "HGCI_BENCH_TIMES": str(times)}
        ran = run([*command, str(served.path)], env, clone.path)
        calls = []
        for line in times.read_text().splitlines():
            name, started, ended = line.split()
            calls.append(Call(name, float(started), float(ended)))
        return Pushed(ran, calls)


@contextlib.contextmanager
def room(name: str) -> Iterator[Room]:
    """A room for one subject."""
    expect(HOOK.exists(), f"{HOOK} is missing; make build")
    with place(f"bench-{name}") as folder, short_socket(folder) as socket:
        admin = Hg(folder / "srv", user="admin")
        # The mark of adoption would be left in every repository of a daemon that is gone.
        found = Room(folder, socket, admin, Hg(folder / "alice"))
        try:
            yield found
        finally:
            for daemon in found.daemons:
                daemon.stop()


def pipeline(jobs: int, run: str, label: str | None = None) -> str:
    """A pipeline of equal jobs."""
    lines = ["version = 1"]
    for number in range(jobs):
        lines += ["", f"[job.j{number}]", f'run = "{run}"']
        if label:
            lines.append(f'labels = ["{label}"]')
    return "\n".join(lines) + "\n"


def started(daemon: Daemon, seconds: float = 60) -> float:
    """Starts a daemon; how long until it answered."""
    begun = time.monotonic()
    daemon.spawn()
    while True:
        process = daemon.process
        expect(process is not None and process.poll() is None, f"hgcid ended: {daemon.log[-2000:]}")
        with contextlib.suppress(OSError):
            daemon.request("GET", "/healthz")
            return time.monotonic() - begun
        expect(time.monotonic() - begun < seconds, f"hgcid does not answer: {daemon.log[-2000:]}")
        time.sleep(0.001)


def memory(pid: int) -> dict[str, float]:
    """Bytes of a process: resident, and its share of what it shares."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("Rss", "Pss"):
            found[name.lower()] = float(value.split()[0]) * 1024
    return found


def words(seed: int, count: int = 4000) -> list[str]:
    """Words of a made-up language, the same ones each time."""
    source = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgkjqxz_"
    return ["".join(source.choices(letters, k=source.randint(2, 11))) for _ in range(count)]


def copy_program(program: Path, to: Path) -> Path:
    """The same program at another place, as a hard link where that can be."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(program, to)
    except OSError:
        to.write_bytes(program.read_bytes())
        to.chmod(0o755)
    return to

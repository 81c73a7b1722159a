"""Buildbot from PyPI: a master with sqlite and a worker, in a virtual environment of their own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from sampling import Unmeasurable, run

from harness.patience import eventually
from harness.programs import ROOT
from harness.smtp import free_port

HERE = Path(__file__).resolve().parent
HOOK = HERE / "buildbot_hook.py"
REQUIREMENTS = HERE / "requirements.txt"
VENV = ROOT / "build" / "buildbot"
# A package index that does not answer is not waited for.
PIP_LIMIT = 240


class NotThere(Exception):
    """It cannot be installed here."""


def install() -> Path:
    """The folder of its programs; installs them where they are not yet."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    stamp = VENV / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(VENV, ignore_errors=True)
        pip = [VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes"]
        pip += ["--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
        try:
            run([sys.executable, "-m", "venv", VENV])
            subprocess.run(
                [*pip, "-r", REQUIREMENTS],
                check=True,
                capture_output=True,
                text=True,
                timeout=PIP_LIMIT,
            )
        except subprocess.TimeoutExpired:
            raise NotThere(f"pip took more than {PIP_LIMIT} s for Buildbot") from None
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or error.stdout).strip().splitlines() or ["no message"]
            raise NotThere(f"pip cannot install Buildbot: {lines[-1][:200]}") from None
        stamp.write_text(wanted)
    return VENV / "bin"


class Buildbot:
    """A master and its worker, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.bin = install()
        self.master, self.worker = folder / "master", folder / "worker"
        self.ended = folder / "ended"
        self.web, self.pb = free_port(), free_port()
        self.env = {
            "PATH": f"{self.bin}{os.pathsep}{os.environ.get('PATH', '/usr/bin:/bin')}",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "BENCH_WEB": str(self.web),
            "BENCH_PB": str(self.pb),
            "BENCH_ENDED": str(self.ended),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts both, and waits until the worker is there."""
        self._do("buildbot", "create-master", "--quiet", self.master)
        shutil.copy(HERE / "master.cfg", self.master / "master.cfg")
        place = f"127.0.0.1:{self.pb}"
        self._do(
            "buildbot-worker", "create-worker", "--quiet", self.worker, place, "here", "secret"
        )
        self._serve("buildbot", self.master)
        self._log(self.master, "BuildMaster is running")
        self._serve("buildbot-worker", self.worker)
        self._log(self.worker, "Connected to")
        self._log(self.master, "Worker here attached to noop")

    def _do(self, program: str, *words: str | Path) -> None:
        run([self.bin / program, *words], self.env)

    def _serve(self, program: str, folder: Path) -> None:
        process = subprocess.Popen(
            [self.bin / program, "start", "--nodaemon", folder],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)

    def _log(self, folder: Path, what: str) -> None:
        log = folder / "twistd.log"

        def there() -> bool:
            text = log.read_text(errors="replace") if log.exists() else ""
            if any(process.poll() is not None for process in self.processes):
                raise Unmeasurable(f"Buildbot ended: {text[-1000:]}")
            return what in text

        eventually(there, f"{what!r} in {log}", pause=0.1)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def builds(self) -> list[tuple[float, int]]:
        """When each build ended, and with which result: 0 is success."""
        if not self.ended.exists():
            return []
        rows = (line.split() for line in self.ended.read_text().splitlines())
        return [(float(at), int(result)) for at, result in rows]

    def wait(self, count: int, seconds: float = 120) -> list[tuple[float, int]]:
        """Waits for so many builds, from the start on."""
        until = time.monotonic() + seconds
        while len(self.builds()) < count:
            if time.monotonic() > until:
                raise Unmeasurable(f"{len(self.builds())} of {count} builds of Buildbot ended")
            time.sleep(0.01)
        return self.builds()

"""`hg ci-log` goes on when the daemon says that it is asked too often, and when it is restarted."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import Clone, Daemon, Hg, Served, eventually

# More than ten answers hold.
LARGE = 'version = 1\n[job.test]\nrun = "seq 1700000"\n'
LINES = list(map(str, range(1, 1700001)))
WAITING = (
    "version = 1\n[job.long]\n"
    'run = "echo started; until test -e go; do sleep 0.02; done; echo ended"\n'
)


@contextmanager
def reached(
    transport: str, served: Served, alice: Hg, room: Path
) -> Iterator[tuple[Path, list[str]]]:
    """A repository where logs are asked for, with the options for its hg."""
    if transport == "here":
        yield served.path, []
    elif transport == "ssh":
        options, url = served.ssh(room)
        yield alice.clone(url, room / "far", *options).path, options
    else:
        with served.http() as url:
            yield alice.clone(url, room / "far").path, []


def read_until(process: subprocess.Popen[bytes], text: str) -> str:
    """What a process says up to the line that has this text."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line.decode())
        if text in said[-1]:
            return "".join(said)
    raise AssertionError(f"no {text!r} in {said}")


@pytest.mark.parametrize("transport", ["here", "http"])
def test_a_long_log_is_read_to_its_end_however_few_calls_are_allowed(
    transport: str, served: Served, clone: Clone, daemon: Daemon, alice: Hg, room: Path
) -> None:
    node = clone.commit({".hgci.toml": LARGE})
    clone("push")
    assert daemon.final(node)["state"] == "passed"
    daemon.stop()
    # Ten at once, then one in 1.5 seconds.
    daemon.sections["limits"]["requests"] = 40
    daemon.start()
    with reached(transport, served, alice, room) as (where, options):
        done = alice.run("ci-log", *options, "-r", node, "test", cwd=where)
    # The runner writes each step before it runs.
    assert done.out.splitlines()[1:] == LINES
    assert done.err == ""


@pytest.mark.parametrize(
    ("end", "transport"), [("kill", "here"), ("kill", "http"), ("stop", "ssh")]
)
def test_a_log_is_followed_across_a_restart_of_the_daemon(
    end: str, transport: str, served: Served, clone: Clone, daemon: Daemon, alice: Hg, room: Path
) -> None:
    node = clone.commit({".hgci.toml": WAITING})
    clone("push")
    [tree] = eventually(lambda: list(daemon.state.glob("work/*/tree/.hgci.toml")), "the tree")
    eventually(lambda: "started" in clone("ci-log", "long", status=None).out, "the log")
    with reached(transport, served, alice, room) as (where, options):
        follower = alice.start("ci-log", *options, "-f", "-r", node, "long", cwd=where)
        said = read_until(follower, "started")
        getattr(daemon, end)()
        # It says so after a while, and then certainly knows that nobody is there.
        said += read_until(follower, "ci: waiting: ")
        daemon.start()
        tree.with_name("go").touch()
        rest, _ = follower.communicate(timeout=180)
    assert follower.returncode == 0, said + rest.decode()
    lines = [line for line in (said + rest.decode()).splitlines() if "ci: waiting" not in line]
    assert lines[1:] == ["started", "ended"]
    assert daemon.final(node)["state"] == "passed"


HUGE = 200_000_000


def peak_of(process: subprocess.Popen[bytes]) -> int:
    """The most KiB that a process had in memory; 0 when it has ended."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("transport", ["here", "ssh"])
def test_a_huge_log_of_few_lines_goes_through_and_is_held_in_nobodys_memory(
    transport: str, served: Served, clone: Clone, daemon: Daemon, alice: Hg, room: Path
) -> None:
    # Lines of ten million bytes.
    step = f"head -c {HUGE} /dev/zero | tr '\\\\0' x | fold -w 10000000; echo; echo the end"
    node = clone.commit({".hgci.toml": f'version = 1\n[job.test]\nrun = "{step}"\n'})
    clone("push")
    assert daemon.final(node)["state"] == "passed"
    with reached(transport, served, alice, room) as (where, options):
        process = alice.start("ci-log", "-r", node, *options, "test", cwd=where)
        assert process.stdout is not None
        counted, rest, peak = 0, b"", 0
        while part := process.stdout.read(1 << 20):
            counted += part.count(b"x")
            rest = (rest + part)[-200:]
            peak = peak_of(process) or peak
        assert process.wait() == 0
    assert counted >= HUGE
    assert rest.endswith(b"\nthe end\n")
    assert daemon.process is not None
    assert 0 < peak_of(daemon.process) < 100_000, "KiB of the daemon"
    assert 0 < peak < 150_000, "KiB of hg"

"""What a job in a sandbox cannot see, and that nothing of it outlives its time."""

from __future__ import annotations

import os
import resource
import shlex
from pathlib import Path

import pytest

from harness import Clone, Daemon, Pool, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon

# Stands in the command line and in the tree of a job that another one looks for.
MARK = "hgci-mark-71"
# The parts of a marker that is looked for are apart in what looks for it.
LOOKED_FOR = "hgci-mar[k]-71"


def pipeline(**jobs: str) -> str:
    """A pipeline of jobs with one step each."""
    text = "version = 1\n"
    for name, step in jobs.items():
        text += f"[job.{name}]\nrun = '''\n{step}'''\n"
    return text


def tree_with(daemon: Daemon, name: str) -> Path:
    """The tree of the running job that made a file of this name."""
    found = eventually(
        lambda: list(daemon.state.glob(f"work/*/tree/{name}")), f"a tree with {name}"
    )
    return Path(found[0]).parent


def attacks(daemon: Daemon, served: Served, other: Path) -> list[str]:
    """Shell commands that succeed if the job sees what it must not."""
    state = daemon.state
    secrets = [state, state / "secret", daemon.socket, daemon.config, served.path, other]
    hidden = [shlex.quote(str(path)) for path in secrets]
    connect = (
        "import socket,sys; s=socket.socket(socket.AF_UNIX); "
        f"sys.exit(s.connect_ex({str(daemon.socket)!r}))"
    )
    find = r"find / \( -path /proc -o -path /usr \) -prune -o"
    return [
        *(f"test -e {path}" for path in hidden),
        *(f"ls -d {path}" for path in hidden),
        f"ls -A {hidden[0]} | grep .",
        f"cat {hidden[1]}",
        f"cat /proc/1/root{hidden[1]}",
        f"cat /proc/1/cwd/../../..{hidden[1]}",
        f"cat {shlex.quote(str(served.path))}/.hg/hgrc",
        f"ls {shlex.quote(str(other.parent.parent))} | grep .",
        f"python3 -c {shlex.quote(connect)}",
        f"{find} -name '{LOOKED_FOR}*' -print | grep .",
        f"{find} -name 'hgcid.*' -print | grep .",
        "ls -A /job | grep -v -x -e tree -e home | grep .",
        f"grep -l '{LOOKED_FOR}' /proc/[0-9]*/cmdline",
        "grep -l -x -e hgcid -e hgci-runne[r] /proc/[0-9]*/comm | grep -v -x /proc/1/comm",
        f"cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep '{LOOKED_FOR}'",
    ]


def test_a_sandboxed_job_sees_nothing_of_the_daemon_and_of_other_jobs(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    wait = "until test -e go; do sleep 0.02; done"
    # Shell, pause and environment of the one have the mark.
    other = f"touch {MARK}; export WORD={MARK}; sh -c '{wait}' {MARK}"
    spy = f"touch spy\n{wait}\nset +e\n. ./attacks\necho all tried\n! test -e escaped"
    node = clone.commit({".hgci.toml": pipeline(other=other, spy=spy)})
    clone("push")
    hidden, spying = tree_with(daemon, MARK), tree_with(daemon, "spy")
    tried = attacks(daemon, served, hidden)
    # What is looked for is there: out here each path is found.
    assert (daemon.state / "secret").is_file()
    assert daemon.socket.is_socket()
    assert marked()
    lines = [
        f"if ( {attack} ) >/dev/null 2>&1; then echo ESCAPED {n}; touch escaped; fi"
        for n, attack in enumerate(tried)
    ]
    (spying / "attacks").write_text("\n".join(lines) + "\n")
    (spying / "go").touch()
    row = daemon.wait_for(node, lambda row: row["jobs"][1]["state"] not in {"queued", "running"})
    log = clone("ci-log", "spy").out
    escaped = [tried[int(line.split()[1])] for line in log.splitlines() if line[:7] == "ESCAPED"]
    (hidden / "go").touch()
    assert escaped == []
    assert "all tried" in log
    assert row["jobs"][1]["state"] == "passed", log
    assert daemon.final(node)["state"] == "passed"


@pytest.mark.parametrize("isolation", ["sandbox", "none"])
def test_of_a_job_that_timed_out_no_process_is_left(
    isolation: str, served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path)], [Pool(isolation=isolation)]).start()
    # In the background, in sessions of their own, deaf, stopped, without an environment.
    step = f"""
deaf() {{ sh -c "trap '' TERM HUP INT; while :; do sleep 1; done" {MARK}; }}
deaf &
(setsid sh -c 'sleep 1000; :' {MARK} &)
(env -i setsid sh -c 'sleep 1000; :' {MARK} >/dev/null 2>&1 </dev/null &)
sh -c 'kill -STOP $$; sleep 1000; :' {MARK} &
touch started
sh -c 'sleep 1000; :' {MARK}
"""
    text = pipeline(long=step) + 'timeout = "6s"\n'
    node = clone.commit({".hgci.toml": text})
    clone("push")
    tree_with(daemon, "started")
    eventually(lambda: len(marked()) >= 5, "its processes")
    row = daemon.final(node)
    assert row["jobs"][0]["state"] == "timed-out", row
    # At that moment, not some time later.
    assert marked() == []
    assert "timed out after 6s" in clone("ci-log", "long").out


def marked() -> list[str]:
    """Command lines with the mark, of whoever: some have no environment that says whose."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if MARK.encode() in command:
                found.append(f"{entry.name} {command}")
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: each attempt has a user id of its own")
def test_a_job_that_forks_without_end_is_bounded_and_ends(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    # Far fewer than the runner's 8192, for the machine's sake. Root itself is not limited.
    most = 64
    assert daemon.process is not None
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NPROC, (most, most))
    bomb = """touch started
python3 -c '
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.1)
'
"""
    text = pipeline(bomb=bomb) + 'timeout = "10s"\n'
    node = clone.commit({".hgci.toml": text})
    clone("push")
    owner = tree_with(daemon, "started").stat().st_uid
    assert owner != 0

    def many() -> bool:
        count = len(processes_of_account(owner))
        assert count <= most, count
        return count > most // 2

    eventually(many, "many processes", pause=0.1)
    row = daemon.final(node)
    assert row["jobs"][0]["state"] == "timed-out", row
    assert processes_of_account(owner) == []
    # Daemon and machine are as before.
    after = clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert daemon.final(after)["state"] == "passed"


def processes_of_account(number: int) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == number:
                    found.append(entry.name)
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def test_a_job_whose_changeset_was_stripped_is_errored_with_the_reason(
    served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    limits: dict[str, str | int | bool | list[str]] = {"free": "1MiB", "retries": 0}
    daemon = make_daemon([Repo(served.path)], [Pool(slots=1)], {"limits": limits}).start()
    wait = "touch blocks\nuntil test -e go; do sleep 0.02; done\n"
    first = clone.commit({".hgci.toml": pipeline(first=wait)})
    clone("push")
    blocks = tree_with(daemon, "blocks")
    second = clone.commit({"file": "content"})
    clone("push")
    daemon.wait_for(second, lambda row: row["jobs"])
    served.repo("--config", "extensions.strip=", "strip", "--no-backup", "-r", second)
    (blocks / "go").touch()
    assert daemon.final(first)["state"] == "passed"
    row = daemon.final(second)
    assert row["jobs"][0]["state"] == "errored", row
    assert row["jobs"][0]["why"].endswith(f"has no changeset {second}"), row

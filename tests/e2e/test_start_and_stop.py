"""The daemon's beginning and end, what it can be told in between, and what it tells others."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from harness import Clone, Daemon, Hg, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import Answer
from harness.leftovers import processes_of
from harness.people import account_exists

WAITING = 'version = 1\n[job.long]\nrun = "echo started; until test -e go; do sleep 0.02; done"\n'
OTHER = "games"


def end_of(daemon: Daemon) -> int:
    """The exit status of a daemon that ends by itself."""
    assert daemon.process is not None
    status = daemon.process.wait(timeout=120)
    daemon.process = None
    return status


def connections(daemon: Daemon) -> int:
    text = daemon.request("GET", "/metrics").decode()
    [found] = re.findall(r'^hgci_http_connections{door="socket"} (\d+)', text, re.MULTILINE)
    return int(found)


@pytest.mark.parametrize("there", ["a folder", "a program"])
def test_with_something_else_in_the_place_of_the_socket_nothing_starts(
    there: str, make_daemon: MakeDaemon, served: Served, clone: Clone, room: Path
) -> None:
    daemon = make_daemon([Repo(served.path)]).start()
    daemon.run("drain")
    node = clone.commit({".hgci.toml": PASSING})
    clone("push")
    daemon.wait_for(node, lambda row: row["state"] == "running")
    daemon.stop()
    if there == "a folder":
        daemon.socket.mkdir()
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(daemon.socket))
        listener.listen()
    daemon.spawn()
    assert end_of(daemon) == 1
    what = "something that is no socket" if there == "a folder" else "another program answers"
    assert what in daemon.log
    assert not daemon.attempts_left()
    assert not dict(processes_of(daemon.folder))
    assert not daemon.socket.with_name("s.new").exists()
    if there == "a folder":
        daemon.socket.rmdir()
    else:
        listener.close()
    daemon.start()
    assert daemon.final(node)["state"] == "passed"


def test_who_waits_for_a_log_is_answered_when_the_daemon_stops(
    clone: Clone, daemon: Daemon
) -> None:
    node = clone.commit({".hgci.toml": WAITING})
    clone("push")
    [tree] = eventually(lambda: list(daemon.state.glob("work/*/tree/.hgci.toml")), "the tree")
    log = "/api/v1/builds/1/jobs/long/log"
    eventually(lambda: b"started" in daemon.request("GET", log), "the log")
    length = len(daemon.request("GET", log))
    answers: list[Answer] = []
    wait = f"{log}?offset={length}&wait=50000"
    reader = threading.Thread(target=lambda: answers.append(daemon.ask("GET", wait)))
    reader.start()
    # A call is counted when it is answered, so all that can be seen of it is a connection more
    # than those of the runner and of who asks.
    eventually(lambda: connections(daemon) >= 3, "the reader to be connected")
    daemon.stop()
    reader.join(timeout=120)
    tree.with_name("go").touch()
    daemon.start()
    assert daemon.final(node)["state"] == "passed"
    # It may have come too late to be taken in at all; taken in, it is not cut off.
    assert [answer.status for answer in answers] in ([200], [])


def test_a_hangup_reads_the_configuration_again_and_a_mistake_changes_nothing(
    make_daemon: MakeDaemon, admin: Hg, served: Served, alice: Hg, room: Path
) -> None:
    daemon = make_daemon([Repo(served.path)]).start()
    assert daemon.process is not None
    other = Served.create(admin, room / "srv" / "gadgets")
    other.install("extension", daemon.socket)
    daemon.repos.append(Repo(other.path, "gadgets"))
    daemon.write_config()
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the configuration was read again" in daemon.log, "it to be read")
    clone = alice.clone(other.path, room / "alice" / "gadgets")
    node = clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert daemon.final(node, daemon.repos[1])["state"] == "passed"
    daemon.config.write_text(daemon.config.read_text() + "\n[limit]\n")
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the configuration stays as it was" in daemon.log, "the mistake")
    assert "limits" in daemon.log.split("the configuration stays as it was")[1]
    second = clone.commit({"two": "2"})
    clone("push")
    assert daemon.final(second, daemon.repos[1])["state"] == "passed"


def test_a_drained_daemon_starts_nothing_until_that_is_undone(clone: Clone, daemon: Daemon) -> None:
    assert daemon.run("drain").returncode == 0
    node = clone.commit({".hgci.toml": PASSING})
    assert "ci: push 1 recorded" in clone("push").said
    row = daemon.wait_for(node, lambda row: row["jobs"][0]["state"] == "queued")
    assert "drain" in row["jobs"][0]["why"]
    assert json.loads(daemon.run("status", "--json").stdout)["draining"] is True
    assert daemon.run("drain", "--undo").returncode == 0
    assert daemon.final(node)["state"] == "passed"
    assert json.loads(daemon.run("status", "--json").stdout)["draining"] is False


def test_systemd_is_told_when_it_is_ready_read_again_and_stopping(
    make_daemon: MakeDaemon, served: Served, room: Path
) -> None:
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(room / "notify"))
    told.settimeout(120)

    def next_of(word: str) -> list[str]:
        lines = told.recv(4096).decode().splitlines()
        assert word in lines
        return lines

    daemon = make_daemon([Repo(served.path)], env={"NOTIFY_SOCKET": str(room / "notify")})
    daemon.spawn()
    next_of("READY=1")
    # Who is told that it is ready can connect.
    assert daemon.ask("GET", "/healthz").status == 200
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    assert any(line.startswith("MONOTONIC_USEC=") for line in next_of("RELOADING=1"))
    next_of("READY=1")
    daemon.stop()
    next_of("STOPPING=1")


def test_a_slow_start_hears_that_it_is_to_stop(make_daemon: MakeDaemon, served: Served) -> None:
    # Wherever in its start it is then.
    for n in range(10):
        daemon = make_daemon([Repo(served.path)], folder=f"d{n}")
        daemon.spawn()
        eventually(daemon.state.joinpath("store").exists, "it to be under way")
        daemon.stop()
        assert not daemon.socket.exists()


@pytest.mark.parametrize("mode", ["0600", "0660", "0666"])
def test_the_socket_has_the_mode_and_group_of_the_configuration(
    mode: str, make_daemon: MakeDaemon, served: Served
) -> None:
    daemon = make_daemon([Repo(served.path)])
    known = os.geteuid() == 0 and account_exists(OTHER)
    # Keys of the top level come before any table.
    group = f'socket-group = "{OTHER}"\n' if known else ""
    daemon.write_config()
    daemon.config.write_text(f'socket-mode = "{mode}"\n{group}' + daemon.config.read_text())
    daemon.write_config = lambda: None  # type: ignore[method-assign]
    daemon.start()
    there = daemon.socket.stat()
    assert oct(stat.S_IMODE(there.st_mode)) == oct(int(mode, 8))
    if known:
        number = subprocess.run(["id", "-g", OTHER], capture_output=True, check=True).stdout
        assert there.st_gid == int(number)


@pytest.mark.skipif(not account_exists(OTHER), reason=f"needs root and the account {OTHER}")
@pytest.mark.parametrize("groups", ["--clear-groups", "--groups"])
def test_a_role_of_a_group_is_for_all_who_are_in_it(
    groups: str, make_daemon: MakeDaemon, served: Served
) -> None:
    daemon = make_daemon(
        [Repo(served.path)], sections={"roles": {"reader": ["@daemon"]}, "limits": {}}
    )
    daemon.write_config()
    daemon.config.write_text('socket-mode = "0666"\n' + daemon.config.read_text())
    daemon.write_config = lambda: None  # type: ignore[method-assign]
    daemon.start()
    ask = (
        "import socket; s = socket.socket(socket.AF_UNIX); "
        f"s.connect({str(daemon.socket)!r}); "
        "s.sendall(b'GET /api/v1/builds HTTP/1.0\\r\\n\\r\\n'); "
        "print(s.recv(12).decode())"
    )
    option = [groups] if groups == "--clear-groups" else [groups, "daemon"]
    account = ["setpriv", "--reuid", OTHER, "--regid", OTHER, *option]
    # Whoever runs this may keep the Python of the tests where others do not look.
    said = subprocess.run(
        [*account, "/usr/bin/python3", "-c", ask], capture_output=True, text=True, check=True
    )
    expected = "HTTP/1.0 403" if groups == "--clear-groups" else "HTTP/1.0 200"
    assert said.stdout.strip() == expected


def test_a_log_is_cut_at_the_limit_and_says_so(
    make_daemon: MakeDaemon, served: Served, clone: Clone
) -> None:
    daemon = make_daemon([Repo(served.path)], sections={"limits": {"log": "64KiB"}}).start()
    run = "seq 100000; echo the end; exit 3"
    node = clone.commit({".hgci.toml": f'version = 1\n[job.long]\nrun = "{run}"\n'})
    clone("push")
    assert daemon.final(node)["jobs"][0]["exit"] == 3
    log = daemon.request("GET", "/b/1/long/log")
    assert len(log) <= 64 << 10
    assert b"log cut: the limit of 64KiB is reached" in log

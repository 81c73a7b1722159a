"""`kill -9` at any moment, of every program, under a stream of pushes.

Every changeset gets exactly one build, every job exactly one final result, and no process and no
folder is left behind. The last is what the fixtures `room` and `make_daemon` look at.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from harness import Clone, Daemon, Pool, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon
from harness.hgcid import FINAL
from harness.leftovers import is_running, processes_of, runners_of
from harness.people import Hg

KILLS = 200
# Two jobs, of which one needs the other, that take long enough to be met while they run.
PIPELINE = """\
version = 1

[job.first]
run = "sleep 0.05"

[job.second]
needs = ["first"]
run = "sleep 0.05"
"""


def results_of(clone: Clone, nodes: list[str]) -> dict[str, list[dict]]:
    """What the results log says of each changeset, by hg and without the daemon."""
    rows = {}
    for start in range(0, len(nodes), 100):
        chosen = [word for node in nodes[start : start + 100] for word in ("-r", node)]
        for row in clone.status_of(*chosen)[1]:
            rows.setdefault(row["node"], []).append(row)
    return rows


def all_final(daemon: Daemon, nodes: list[str]) -> bool:
    for node in reversed(nodes):
        row = daemon.status(node)
        if row is None or row["state"] not in FINAL:
            return False
    return True


class Pushing(threading.Thread):
    """Commits and pushes until it is told to stop, over the path, as a person would."""

    def __init__(self, clone: Clone, first: str) -> None:
        super().__init__(daemon=True)
        self.clone = clone
        self.nodes = [first]
        self.trouble: list[str] = []
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.is_set():
            name = f"file{len(self.nodes)}"
            node = self.clone.commit({name: name})
            done = self.clone("push", status=None)
            if done.status != 0:
                self.trouble.append(done.said)
            self.nodes.append(node)


@pytest.mark.timeout(600)
def test_a_daemon_killed_200_times_builds_every_changeset_once(
    served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    served.install("extension", served.path.parent.parent / "d" / "s", deadline="300ms")
    daemon = make_daemon([Repo(served.path)], [Pool(slots=4, isolation="none")]).start()
    dice = random.Random(20_251_120)
    first = clone.commit({".hgci.toml": PIPELINE})
    clone("push")
    pushing = Pushing(clone, first)
    pushing.start()
    try:
        for _ in range(KILLS):
            # Some die while they start, some in the middle of work.
            time.sleep(dice.choice([0.0, 0.02, 0.1, 0.3, 0.6]) * dice.random())
            daemon.kill()
            daemon.spawn()
    finally:
        pushing.enough.set()
        pushing.join(timeout=120)
    assert not pushing.trouble
    nodes = pushing.nodes
    daemon.kill()
    daemon.start()
    try:
        eventually(lambda: all_final(daemon, nodes), "all builds to end", 240, pause=0.5)
    except AssertionError as error:
        missing = [n for n in nodes if (daemon.status(n) or {}).get("state") not in FINAL]
        raise AssertionError(f"{error}: {len(missing)} of {len(nodes)}: {missing[:3]}") from None
    states = Counter(daemon.final(node)["state"] for node in nodes)
    assert states == {"passed": len(nodes)}
    check_log(served, clone, daemon, nodes)


def check_log(served: Served, clone: Clone, daemon: Daemon, nodes: list[str]) -> None:
    """Each changeset has one build, and each job of it one result, also off line."""
    builds = [daemon.final(node)["build"] for node in nodes]
    assert len(set(builds)) == len(nodes)
    # Nothing was built twice: the numbers have no gap.
    assert sorted(builds) == list(range(1, len(nodes) + 1))
    daemon.stop()
    rows = results_of(served.repo, nodes)
    assert {node: len(found) for node, found in rows.items()} == dict.fromkeys(nodes, 1)
    for [row] in rows.values():
        assert Counter(job["name"] for job in row["jobs"]) == {"first": 1, "second": 1}
        assert {job["state"] for job in row["jobs"]} == {"passed"}
        assert row["source"] == "log"


@pytest.mark.parametrize("isolation", ["none", "sandbox"])
def test_a_killed_runner_is_a_new_attempt_and_never_a_red_result(
    isolation: str, served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path)], [Pool(isolation=isolation)]).start()
    # Known by its command, for a sandbox shows nothing else of where a process belongs.
    sleep = f"sleep 1000.{random.SystemRandom().getrandbits(60)}"
    pipeline = f'version = 1\n[job.long]\nrun = "test $HGCI_ATTEMPT -gt 1 || {sleep}"\n'
    node = clone.commit({".hgci.toml": pipeline})
    clone("push")

    eventually(lambda: is_running(sleep), "the job")
    [runner] = runners_of(daemon.folder)
    os.kill(runner, signal.SIGKILL)
    row = daemon.final(node)
    assert row["state"] == "passed"
    assert row["jobs"][0]["attempt"] == 2


@pytest.mark.timeout(600)
def test_runners_killed_at_random_cost_attempts_and_never_a_result(
    served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon(
        [Repo(served.path)],
        [Pool(slots=4, isolation="none")],
        {"limits": {"free": "1MiB", "requests": 1000000, "retries": 100}},
    ).start()
    dice = random.Random(99)
    first = clone.commit({".hgci.toml": PIPELINE})
    clone("push")
    pushing = Pushing(clone, first)
    pushing.start()
    kills, until = 0, time.monotonic() + 25
    try:
        while kills < 100 and time.monotonic() < until:
            time.sleep(0.1 * dice.random())
            for runner in runners_of(daemon.folder):
                if dice.random() < 0.3:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(runner, signal.SIGKILL)
                        kills += 1
    finally:
        pushing.enough.set()
        pushing.join(timeout=120)
    assert not pushing.trouble
    assert kills
    eventually(lambda: all_final(daemon, pushing.nodes), "all builds to end", 400, pause=0.5)
    rows = [daemon.final(node) for node in pushing.nodes]
    assert {row["state"] for row in rows} == {"passed"}
    assert any(job["attempt"] > 1 for row in rows for job in row["jobs"])
    check_log(served, clone, daemon, pushing.nodes)


@pytest.mark.parametrize("isolation", ["none", "sandbox"])
def test_a_job_survives_the_death_of_the_daemon(
    isolation: str, served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path)], [Pool(isolation=isolation)]).start()
    pipeline = (
        "version = 1\n[job.long]\n"
        'run = "echo started; until test -e go; do sleep 0.02; done; echo ended"\n'
    )
    node = clone.commit({".hgci.toml": pipeline})
    clone("push")
    eventually(lambda: list(daemon.state.glob("work/*/tree/.hgci.toml")), "the tree")
    eventually(lambda: "started" in clone("ci-log", "long", status=None).out, "the log")
    before = runners_of(daemon.folder)
    daemon.kill()
    daemon.start()
    assert runners_of(daemon.folder) == before
    [tree] = daemon.state.glob("work/*/tree")
    (tree / "go").touch()
    row = daemon.final(node)
    assert (row["state"], row["jobs"][0]["attempt"]) == ("passed", 1)
    # The runner writes each step before it runs.
    assert clone("ci-log", "long").out.splitlines()[1:] == ["started", "ended"]


def test_a_stopped_daemon_leaves_the_job_running_and_takes_it_up_again(
    served: Served, clone: Clone, daemon: Daemon
) -> None:
    pipeline = 'version = 1\n[job.long]\nrun = "until test -e go; do sleep 0.02; done"\n'
    node = clone.commit({".hgci.toml": pipeline})
    clone("push")
    before = eventually(lambda: runners_of(daemon.folder), "the runner")
    [tree] = eventually(lambda: list(daemon.state.glob("work/*/tree")), "the tree")
    daemon.stop()
    assert runners_of(daemon.folder) == before
    daemon.start()
    (tree / "go").touch()
    row = daemon.final(node)
    assert (row["state"], row["jobs"][0]["attempt"]) == ("passed", 1)


# What is killed between transaction and hook is found at the next look, up to a minute later.
@pytest.mark.timeout(1500)
def test_an_hg_server_killed_in_the_middle_of_pushes_loses_no_build(
    served: Served, clone: Clone, alice: Hg, daemon: Daemon
) -> None:
    dice = random.Random(7)
    first = clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert daemon.final(first)["state"] == "passed"
    for number in range(20):
        node = clone.commit({f"file{number}": "x"})
        push = alice.start("push", str(served.path), cwd=clone.path)
        time.sleep(0.1 + 0.4 * dice.random())
        with contextlib.suppress(ProcessLookupError):
            os.killpg(push.pid, signal.SIGKILL)
        push.communicate()
        # Over a path one process writes on both sides.
        served.repo("recover", status=None)
        clone("recover", status=None)
        # A killed hg leaves its locks behind, and the next one breaks them.
        if node in served.repo.nodes():
            # It arrived, and whether its hook could speak or not, it is a head that is built.
            assert daemon.final(node)["state"] == "passed"
    clone.commit({"last": "x"})
    clone("push")
    head = clone.node()
    assert daemon.final(head)["state"] == "passed"
    # Whatever arrived by itself was a head then, unless the next push came before it was seen.
    built = [daemon.status(node) for node in served.repo.nodes()]
    numbers = [row["build"] for row in built if row]
    assert len(set(numbers)) == len(numbers)
    for row in built:
        assert row is None or daemon.final(row["node"])["state"] == "passed"


# As above, what is killed before its hook has spoken may be found a minute later.
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("transport", ["ssh", "http"])
def test_a_server_killed_in_the_middle_of_pushes_over_the_network_loses_no_build(
    transport: str, served: Served, clone: Clone, alice: Hg, daemon: Daemon, room: Path
) -> None:
    dice = random.Random(11)
    first = clone.commit({".hgci.toml": PASSING})
    clone("push")
    assert daemon.final(first)["state"] == "passed"
    arrived = [first]
    for number in range(20):
        node = clone.commit({f"file{number}": "x"})
        with contextlib.ExitStack() as stack:
            if transport == "ssh":
                options, url = served.ssh(room)
                server = "serve --stdio"
            else:
                options, url = [], stack.enter_context(served.http())
                server = "serve --address"
            push = alice.start("push", *options, url, cwd=clone.path)
            time.sleep(0.1 + 0.6 * dice.random())
            for process, command in processes_of(room):
                if server in command and "push" not in command:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
            push.communicate()
        # A killed hg leaves its locks behind, and the next one breaks them.
        served.repo("recover", status=None)
        if node in served.repo.nodes():
            # Whether its hook could speak or not, it is a head that is built.
            assert daemon.final(node)["state"] == "passed"
            arrived.append(node)
    clone.commit({"last": "x"})
    clone("push")
    head = clone.node()
    assert daemon.final(head)["state"] == "passed"
    builds = [daemon.final(node)["build"] for node in dict.fromkeys([*arrived, head])]
    assert len(set(builds)) == len(builds)


def test_a_second_daemon_on_the_same_state_is_refused(
    daemon: Daemon,
) -> None:
    second = daemon.run("serve")
    assert second.returncode != 0
    assert str(daemon.state) in second.stderr
    assert daemon.request("GET", "/healthz") is not None

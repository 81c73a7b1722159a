"""Hostile input to socket and port: bounded memory and time, and an error that names it."""

from __future__ import annotations

import json
import random
import re
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import Clone, Daemon, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon
from harness.raw import Raw, error_of, get, many, post
from harness.smtp import free_port

HINTS = "/api/v1/hints"
MIB = 1 << 20


@pytest.fixture
def hostile(make_daemon: MakeDaemon, served: Served) -> Daemon:
    """A daemon on socket and port."""
    web = {"listen": f"127.0.0.1:{free_port()}"}
    return make_daemon([Repo(served.path)], sections={"web": web}).start()


def memory(daemon: Daemon) -> float:
    """Resident bytes of the daemon."""
    text = daemon.request("GET", "/metrics").decode()
    found = re.search(r"^process_resident_memory_bytes (\d+)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])


def is_well(daemon: Daemon, clone: Clone, name: str) -> None:
    """A push is taken in and built."""
    node = clone.commit({".hgci.toml": PASSING, name: name})
    said = clone("push").said
    assert re.search(r"ci: push \d+ recorded$", said, re.MULTILINE), said
    assert daemon.final(node)["state"] == "passed"


def answered(made: list[Raw], count: int) -> list[Raw]:
    """Those to which something was said, once they are so many."""
    said, _, _ = select.select([raw.socket for raw in made], [], [], 0)
    return [raw for raw in made if raw.socket in said] if len(said) >= count else []


@pytest.mark.parametrize("tcp", [False, True])
def test_a_head_without_end_is_refused(hostile: Daemon, tcp: bool) -> None:
    before = memory(hostile)
    for start in (b"GET /", b"GET / HTTP/1.1\r\nhost: x\r\nx: ", b""):
        raw = Raw(hostile, tcp)
        sent = 0
        raw.send(start)
        while sent < 64 * MIB and raw.send(b"a" * 65536):
            sent += 65536
        # The rest of it lies in the buffers of the system.
        assert sent < 16 * MIB
        status, _ = raw.answer()
        assert status in (0, 400, 414, 431)
        raw.close()
    # Too many headers, each of them small.
    raw = Raw(hostile, tcp)
    raw.send(get("/healthz", *(f"x-{n}: y" for n in range(5000))))
    assert raw.answer()[0] in (0, 400, 431)
    raw.close()
    assert memory(hostile) < before + 32 * MIB
    assert "is no HTTP" in hostile.log
    assert "uid 0" in hostile.log or "127.0.0.1" in hostile.log or "uid" in hostile.log


def test_a_body_without_end_is_refused_and_the_limit_is_named(hostile: Daemon) -> None:
    before = memory(hostile)
    for length in (1 << 40, None):
        raw = Raw(hostile)
        if length is None:
            lines = (HINTS, b"", "transfer-encoding: chunked")
            raw.send(post(*lines).replace(b"content-length: 0\r\n", b""))
            part = b"10000\r\n" + b" " * 65536 + b"\r\n"
        else:
            raw.send(post(HINTS, b"", length=length))
            part = b" " * 65536
        sent = 0
        while sent < 64 * MIB and raw.send(part):
            sent += len(part)
        assert sent < 16 * MIB
        status, body = raw.answer()
        # Who goes on sending may miss the answer, as with every server.
        if status:
            assert (status, error_of(body)) == (
                413,
                "the body is larger than this call takes (64KiB)",
            )
        raw.close()
    # Who waits for the answer has it.
    raw = Raw(hostile)
    raw.send(post(HINTS, b" " * 65537))
    status, body = raw.answer()
    assert (status, error_of(body)) == (413, "the body is larger than this call takes (64KiB)")
    raw.close()
    assert memory(hostile) < before + 32 * MIB


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[" * 60_000, "recursion limit exceeded|invalid type"),
        (b'{"v": 1, "repo": ' + b"[" * 60_000, "recursion limit exceeded|invalid type"),
        (b'{"v": 1, "x": ' + b"[" * 60_000, "recursion limit exceeded|EOF while parsing"),
        (b"\xff\xfe\x00\x01" * 100, "expected value"),
        (b"", "EOF while parsing"),
        (b'{"v": 1e999}', "number out of range"),
        (b'{"v": -1}', "invalid value"),
        (b'{"v": 1, "repo": "\xff"}', "invalid unicode|invalid UTF-8|unicode"),
    ],
)
def test_what_is_no_hint_is_refused_with_the_reason(hostile: Daemon, body: bytes, why: str) -> None:
    answer = hostile.ask("POST", HINTS, body)
    assert answer.status == 400
    assert re.search(why, error_of(answer.body)), answer.body
    assert len(answer.body) < 1000


def test_a_repository_with_a_name_without_end_is_cut_in_the_answer(hostile: Daemon) -> None:
    body = json.dumps({"v": 1, "repo": "/" + "x" * 60_000}).encode()
    answer = hostile.ask("POST", HINTS, body)
    assert answer.status == 404
    assert len(answer.body) < 5000


@pytest.mark.parametrize("tcp", [False, True])
def test_rubbish_is_cut_off_and_the_daemon_goes_on(
    hostile: Daemon, clone: Clone, tcp: bool
) -> None:
    dice = random.Random(17)
    before = memory(hostile)
    for n in range(200):
        raw = Raw(hostile, tcp)
        raw.send(dice.randbytes(dice.randrange(1, 20_000)) + b"\r\n\r\n")
        status, _ = raw.answer()
        assert status in (0, 400, 431), n
        raw.close()
    # Lines about it are few, and count the others.
    told = [line for line in hostile.log.splitlines() if "is no HTTP" in line]
    assert 1 <= len(told) < 20
    assert memory(hostile) < before + 32 * MIB
    is_well(hostile, clone, "after")


def test_clients_that_send_slowly_are_cut_off(hostile: Daemon) -> None:
    """A byte now and then is not enough, in head and body."""

    def dribble(start: bytes, raw: Raw) -> tuple[int, bytes]:
        raw.send(start)
        raw.socket.settimeout(0.5)
        ends = time.monotonic() + 120
        data = b""
        while time.monotonic() < ends:
            try:
                part = raw.socket.recv(65536)
            except socket.timeout:
                if not raw.send(b" "):
                    # It may have said why before it closed.
                    data += raw.rest()
                    return int(data[9:12] or b"0"), data
                continue
            except ConnectionResetError:
                part = b""
            if not part:
                return int(data[9:12] or b"0"), data
            data += part
        raise AssertionError("it was never cut off")

    slow = [
        (get("/healthz")[:-2] + b"x: ", False),
        (get("/healthz")[:-2] + b"x: ", True),
        (post(HINTS, b"{", length=60_000), False),
    ]
    with ThreadPoolExecutor(len(slow)) as threads:
        made = [(start, Raw(hostile, tcp)) for start, tcp in slow]
        cut = list(threads.map(lambda one: dribble(*one), made))
    assert cut[0][0] in (0, 408)
    assert cut[1][0] in (0, 408)
    assert cut[2][0] == 408
    assert b"the body did not come within 30 s" in cut[2][1]


def test_connections_that_do_nothing_keep_nobody_out(
    make_daemon: MakeDaemon, served: Served, clone: Clone
) -> None:
    limits = {"free": "1MiB", "requests": 1000000, "connections": 8}
    web = {"listen": f"127.0.0.1:{free_port()}"}
    repo = Repo(served.path, more={"public": True})
    daemon = make_daemon([repo], sections={"limits": limits, "web": web}).start()
    before = memory(daemon)
    with many(daemon, 100) as idle, many(daemon, 100, tcp=True):
        for n, raw in enumerate(idle):
            # Some say nothing, some begin and do not end.
            if n % 2:
                raw.send(b"GET / HTTP/1.1\r\nx: ")
        is_well(daemon, clone, "one")
        assert daemon.tcp("GET", "/healthz").status == 200
        assert memory(daemon) < before + 32 * MIB
        # Those that were there first have made room.
        assert idle[0].rest() == b""
    assert "hgci_http_refused_total" in daemon.request("GET", "/metrics").decode()


def test_readers_that_hold_on_keep_no_hook_waiting(
    make_daemon: MakeDaemon, served: Served, clone: Clone
) -> None:
    limits = {"free": "1MiB", "requests": 1000000, "connections": 8}
    daemon = make_daemon([Repo(served.path)], sections={"limits": limits}).start()
    pipeline = 'version = 1\n[job.slow]\nrun = "until test -e go; do sleep 0.02; done"\n'
    slow = clone.commit({".hgci.toml": pipeline})
    clone("push")
    daemon.wait_for(slow, lambda row: row["jobs"][0]["state"] == "running")
    length = eventually(
        lambda: len(daemon.request("GET", "/api/v1/builds/1/jobs/slow/log")), "its log"
    )
    follow = get(f"/api/v1/builds/1/jobs/slow/log?offset={length}&wait=55000")
    # With more followers than there are connections, some are told to come again …
    with many(daemon, 8) as followers:
        for raw in followers:
            raw.send(follow)
        refused = eventually(lambda: answered(followers, 2), "the refusals")
        assert {raw.answer()[0] for raw in refused} == {503}
        # … and a push is taken in all the same.
        clone.commit({".hgci.toml": PASSING})
        said = clone("push").said
        assert "ci: push 2 recorded" in said, said
    [tree] = daemon.state.glob("work/1.0.1/tree")
    (tree / "go").touch()
    assert daemon.final(slow)["state"] == "passed"


def test_a_flood_is_refused_with_when_to_come_again_and_hooks_are_not(
    make_daemon: MakeDaemon, served: Served, clone: Clone
) -> None:
    limits = {"free": "1MiB", "requests": 60}
    web = {"listen": f"127.0.0.1:{free_port()}"}
    repo = Repo(served.path, more={"public": True})
    daemon = make_daemon([repo], sections={"limits": limits, "web": web}).start()
    for ask in (daemon.ask, daemon.tcp):
        answers = [ask("GET", "/api/v1/repos") for _ in range(60)]
        refused = [answer for answer in answers if answer.status == 429]
        assert {answer.status for answer in answers} == {200, 429}
        for answer in refused:
            assert int(answer.headers["retry-after"]) >= 1
            assert "[limits] requests" in error_of(answer.body)
        # A quarter of a minute's at once, and few more by the time that this took.
        assert len(answers) - len(refused) >= 15
        assert len(refused) >= 15
    # The administrator and the supervisor are heard, and the hook is.
    assert daemon.ask("GET", "/api/v1/daemon").status == 200
    assert daemon.ask("GET", "/healthz").status == 200
    clone.commit({".hgci.toml": PASSING})
    assert "ci: push 1 recorded" in clone("push").said
    # Runners are, too: the build comes to its end, as its results log says.
    eventually(lambda: clone.status_of()[0] == 0, "the build to pass")

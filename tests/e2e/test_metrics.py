"""`/metrics`: what happened is counted, in a form that Prometheus reads, and nothing private."""

from __future__ import annotations

import re

from harness import Clone, Daemon, Repo, Served
from harness.fixtures import MakeDaemon
from harness.smtp import free_port

PIPELINE = """\
version = 1

[job.good]
run = "echo hello"

[job.bad]
run = "exit 3"
"""

SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)+)\})? ([0-9.e+-]+|\+Inf)$')


def parse(text: str) -> dict[str, float]:
    """Samples by name and labels. Fails on what Prometheus would not read, or would warn of."""
    samples: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            assert len(line.split(" ", 3)) == 4, line
        elif line.startswith("# TYPE "):
            name, kind = line.split(" ")[2:]
            assert name not in kinds, f"{name} is told twice"
            kinds[name] = kind
            assert name.endswith("_total") == (kind == "counter"), line
        else:
            found = SAMPLE.match(line)
            assert found, line
            name, labels = found[1], found[2] or ""
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            assert kinds.get(name) in {"gauge", "counter"} or kinds.get(family) == "histogram"
            key = f"{name}{{{labels}}}" if labels else name
            assert key not in samples, f"{key} is there twice"
            samples[key] = float(found[3])
    assert samples
    return samples


def pushes(samples: dict[str, float]) -> float:
    """Pushes that were taken in. Which way depends on who was faster, hook or daemon."""
    vias = ("hook", "spool", "reconcile")
    return sum(samples[f'hgci_intake_pushes_total{{via="{via}"}}'] for via in vias)


def test_what_happens_is_counted(served: Served, clone: Clone, make_daemon: MakeDaemon) -> None:
    web = {"listen": f"127.0.0.1:{free_port()}"}
    daemon: Daemon = make_daemon([Repo(served.path)], sections={"web": web}).start()
    before = parse(daemon.request("GET", "/metrics").decode())
    assert before['hgci_attempts_total{end="passed"}'] == 0
    node = clone.commit({".hgci.toml": PIPELINE})
    clone("push")
    daemon.final(node)
    # Read late: the slots are free once the runners have gone.
    daemon.stop()
    clone.commit({"while": "down"})
    clone("push")
    daemon.start()
    daemon.final(clone.node())
    after = parse(daemon.request("GET", "/metrics").decode())
    assert after['hgci_attempts_total{end="passed"}'] == 1
    assert after['hgci_attempts_total{end="failed"}'] == 1
    assert after['hgci_jobs_total{state="failed"}'] == 1
    assert pushes(after) == 1
    assert after["hgci_spool_files"] == 0
    assert after["hgci_repositories"] == 1
    used, free = (after[f'hgci_pool_slots{{pool="here",state="{s}"}}'] for s in ("used", "free"))
    assert used + free == 2
    assert after["hgci_store_up"] == 1
    assert after["hgci_store_batch_seconds_count"] > 0
    assert after["hgci_store_batch_seconds_sum"] > 0
    assert after["hgci_log_bytes_total"] > len("hello\n")
    assert after["hgci_outbox_messages"] == 0
    assert after["hgci_state_free_bytes"] > 0
    assert after["process_resident_memory_bytes"] > 1e6
    assert after['hgci_http_requests_total{door="socket",code="200"}'] > 0
    third = clone.commit({"third": "1"})
    clone("push")
    daemon.final(third)
    last = parse(daemon.request("GET", "/metrics").decode())
    assert pushes(last) == 2
    assert last["hgci_hint_seconds_count"] == 1
    for key, value in after.items():
        if key.split("{")[0].endswith(("_total", "_count", "_bucket")):
            assert last[key] >= value, key
    # Over TCP the same, but for names of pools: nothing says whose the numbers are.
    answer = daemon.tcp("GET", "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.body.decode()
    assert parse(text)['hgci_attempts_total{end="passed"}'] == 2
    for private in ("widgets", '"here"', "alice", node):
        assert private not in text

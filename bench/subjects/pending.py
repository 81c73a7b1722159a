"""100,000 jobs pending: how long the daemon takes to start with them, what a claim takes, and how
much memory it needs.

The jobs come in by one push whose changesets all have a pipeline of 1,000 jobs, while the daemon
drains. Then it is started anew. In the place of the runner stands one that claims its attempt,
notes how long that took, and says passed: so what is seen is the daemon's work.
"""

from __future__ import annotations

import time
from pathlib import Path

from figures import Figure
from room import copy_program, memory, pipeline, room, started
from sampling import Sample, expect

from harness import Pool
from harness.patience import eventually
from harness.programs import HGCID, TARGET

GOAL_START, GOAL_CLAIM, GOAL_MEMORY = 1.0, 0.001, 150e6
BUILDS, JOBS = 100, 1000
STARTS = 5
CLAIMS = 3000
CLAIMANT = TARGET / "examples" / "claimant"


def figures() -> list[Figure]:
    expect(CLAIMANT.exists(), f"{CLAIMANT} is missing; make bench builds it")
    with room("pending") as here:
        program = copy_program(HGCID, here.folder / "bin" / "hgcid")
        copy_program(CLAIMANT, here.folder / "bin" / "hgci-runner")
        served = here.served("widgets", "extension")
        daemon = here.daemon([served], [Pool(isolation="none", slots=2)], build="every")
        daemon.program = program
        daemon.start()
        daemon.run("drain")
        clone = here.clone("widgets")
        clone.commit({".hgci.toml": pipeline(JOBS, "true")})
        for number in range(BUILDS - 1):
            clone.commit({"number": f"{number}\n"})
        begun = time.monotonic()
        here.push(clone, served)
        eventually(
            lambda: daemon.get("/api/v1/daemon")["jobs"].get("queued", 0) == BUILDS * JOBS,
            "all jobs to be queued",
        )
        planned = time.monotonic() - begun
        assert daemon.process is not None
        filled = memory(daemon.process.pid)["rss"]
        daemon.stop()

        answers, firsts = [], []
        claims = daemon.state / "claims"
        for number in range(STARTS):
            claims.unlink(missing_ok=True)
            begun = time.monotonic()
            answers.append(started(daemon))
            eventually(claims.exists, "the first claim", pause=0.001)
            firsts.append(read(claims)[0][0] - begun)
            if number < STARTS - 1:
                daemon.stop()
        resident = memory(daemon.process.pid)["rss"]
        eventually(lambda: len(read(claims)) >= CLAIMS, f"{CLAIMS} claims", pause=0.2)
        taken = read(claims)[:CLAIMS]
        worked = memory(daemon.process.pid)["rss"]
        daemon.run("drain")
        eventually(lambda: not daemon.get("/api/v1/daemon")["leases"], "the last claims")
    one = lambda value: Sample.of([value])  # noqa: E731
    claim = Sample.of([seconds for _, seconds, _ in taken])
    verdict = Sample.of([seconds for _, _, seconds in taken])
    rate = len(taken) / (taken[-1][0] - taken[0][0])
    return [
        Figure("push of all → all queued", one(planned), "s"),
        Figure("start → answers", Sample.of(answers), "s", goal=GOAL_START),
        Figure("start → first claim", Sample.of(firsts), "s", goal=GOAL_START),
        Figure("claim, median", claim, "ms"),
        Figure("claim, p99", one(claim.quantile(0.99)), "ms", goal=GOAL_CLAIM),
        Figure("verdict, median: durable in store and log", verdict, "ms"),
        Figure("verdict, p99", one(verdict.quantile(0.99)), "ms"),
        Figure("jobs of a runner that does nothing", one(rate), "/s"),
        Figure("memory, all queued by one push", one(filled), "MB", goal=GOAL_MEMORY),
        Figure("memory after a start with them", one(resident), "MB", goal=GOAL_MEMORY),
        Figure(f"memory after {CLAIMS:,} jobs", one(worked), "MB", goal=GOAL_MEMORY),
    ]


def read(claims: Path) -> list[tuple[float, float, float]]:
    """When each claim was answered, and how long claim and verdict took."""
    rows = []
    for line in claims.read_text().splitlines():
        at, claim, verdict = map(float, line.split())
        rows.append((at, claim, verdict))
    return sorted(rows)

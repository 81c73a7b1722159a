"""Resident memory of a daemon that has nothing to do, fresh and after work."""

from __future__ import annotations

import time

from figures import Figure
from room import memory, pipeline, room
from sampling import Sample, expect
from watching import Results

from harness import Pool
from subjects.latency import RUNS, Pushing

GOAL = 20e6
JOBS = 200
# Threads that wait for work end after 5 s of none.
SETTLED = 8.0


def figures() -> list[Figure]:
    with room("idle") as here:
        served = here.served("widgets", "extension")
        daemon = here.daemon([served], [Pool(isolation="none", slots=2)]).start()
        assert daemon.process is not None
        time.sleep(SETTLED)
        fresh = memory(daemon.process.pid)
        pushing = Pushing(here, served, pipeline(JOBS, RUNS["none"]))
        pushing.first()
        with Results(served.path) as results:
            pushing.timed(results, JOBS, pause=0.02)
        time.sleep(SETTLED)
        worked = memory(daemon.process.pid)
        expect(not daemon.attempts_left(), "attempts left folders behind")
    found: list[Figure] = []
    for name, kinds in {"after the start": fresh, f"after {2 * JOBS} jobs": worked}.items():
        note = f"its share of what it shares (Pss): {kinds['pss'] / 1e6:.1f} MB"
        key = "" if found else "idle"
        found.append(Figure(name, Sample.of([kinds["rss"]]), "MB", goal=GOAL, note=note, key=key))
    return found

"""Jobs that do nothing, a second: from the hook's answer until all results are final, each with its
own attempt, checkout, log and durable record."""

from __future__ import annotations

import os
import subprocess
import time

from figures import Beside, Figure
from room import pipeline, room
from sampling import Sample, expect, in_turns
from watching import Results

from harness import Pool
from subjects.latency import RUNS, Pushing, isolations

GOAL = 400
JOBS = 300
ROUNDS = 3
SLOTS = (2, 4, 8)
SPAWNS = 2000

SPAWN = "i=0; while [ $i -lt {count} ]; do sh -c true; i=$((i+1)); done"


def figures() -> list[Figure]:
    found = []
    with room("jobs") as here:
        settings = {f"{kind}-{slots}": (kind, slots) for kind in isolations() for slots in SLOTS}
        served = {name: here.served(name, "extension") for name in settings}
        pools = [
            Pool(name, slots, kind, {"labels": [name]}) for name, (kind, slots) in settings.items()
        ]
        here.daemon(list(served.values()), pools).start()
        pushing = {
            name: Pushing(here, served[name], pipeline(JOBS, RUNS[kind], name))
            for name, (kind, _) in settings.items()
        }
        for one in pushing.values():
            one.first()
        logs = {name: Results(served[name].path) for name in settings}

        def rate(name: str) -> float:
            # Looking costs the jobs time: a look in 20 ms is enough for some seconds.
            return JOBS / pushing[name].timed(logs[name], JOBS, pause=0.02)[1]

        works = {name: lambda _, name=name: rate(name) for name in settings}
        rates = in_turns(ROUNDS, {**works, "floor": lambda _: spawns()})
        floor = Beside("sh -c true, two at a time", Sample.of(rates.pop("floor")).median)
        for kind in isolations():
            best = max(
                (name for name in settings if settings[name][0] == kind),
                key=lambda name: Sample.of(rates[name]).median,
            )
            for name, (of, slots) in settings.items():
                if of == kind:
                    label = f"{kind}, {slots} slots{', the best' if name == best else ''}"
                    goal, key = (GOAL, "jobs") if name == best else (None, "")
                    sample = Sample.of(rates[name])
                    found.append(Figure(label, sample, "/s", [floor], goal, key=key))
    return found


def spawns() -> float:
    """Shells that start and end in a second, without anything around them."""
    cores = min(2, os.cpu_count() or 1)
    command = ["sh", "-c", SPAWN.format(count=SPAWNS)]
    begun = time.monotonic()
    children = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(cores)]
    for child in children:
        expect(child.wait(timeout=120) == 0, "sh -c true failed")
    return cores * SPAWNS / (time.monotonic() - begun)

"""`hg ci-status` on a log of 1,000,000 results, beside `hg id`."""

from __future__ import annotations

import json
import sys

from figures import Beside, Figure
from room import room
from sampling import Sample, differences, expect, in_turns, run

from harness import Clone
from harness.programs import HG, ROOT, TARGET

RESULTS = 1_000_000
GOAL = 0.010
ROUNDS = 40
MILLION = TARGET / "examples" / "million"
APPEND = ROOT / "tests" / "results-log.py"


def figures() -> list[Figure]:
    expect(MILLION.exists(), f"{MILLION} is missing; make bench builds it")
    with room("ci-status") as here:
        clone = here.clone("widgets")
        node = clone.commit({"README": "A repository.\n"})
        dot_hg = clone.path / ".hg"
        run([MILLION, str(RESULTS), dot_hg])
        jobs = ["build=passed", "test=passed", "docs=passed"]
        run([sys.executable, APPEND, dot_hg, node, str(RESULTS), "passed", *jobs])
        clone.configure("[extensions]\nhgci =\n")
        works = {
            "hg id": lambda _: timed(clone, "--config=extensions.hgci=!", "id"),
            "with": lambda _: timed(clone, "id"),
            "ci-status": lambda _: timed(clone, "ci-status"),
        }
        in_turns(2, works)
        times = in_turns(ROUNDS, works)
        said = json.loads(run([HG, "ci-status", "-T", "json"], clone.hg.env, clone.path).said)
        found = [job["name"] for job in said[0]["jobs"]]
        expect(said[0]["node"] == node and len(found) == len(jobs), f"ci-status said {said}")
        log = (dot_hg / "hgci" / "results").stat().st_size
    plain = Beside("hg id", Sample.of(times["hg id"]).median)
    loaded = Beside("hg id, with hgci loaded", Sample.of(times["with"]).median)
    more = differences(times["ci-status"], times["hg id"])
    own = differences(times["ci-status"], times["with"])
    note = f"the log has {log / 1e6:.0f} MB"
    return [
        Figure("hg ci-status", Sample.of(times["ci-status"]), "ms", [plain, loaded], note=note),
        Figure("more than hg id", more, "ms", goal=GOAL),
        Figure("more than hg id with hgci loaded", own, "ms"),
    ]


def timed(clone: Clone, *words: str) -> float:
    return run([HG, *words], clone.hg.env, clone.path).seconds

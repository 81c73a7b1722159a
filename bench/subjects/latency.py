"""From the end of a push to the final result of a job that does nothing, checkout included.

"Push returned" is when the process of hg has ended, as whoever pushes sees it. hg takes some time
to end after its hooks have run, in which the job runs already, so that this may be less than
nothing; the time from the end of the hook has the same goal. Final is what the results log has.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from figures import Beside, Figure
from room import Room, pipeline, room
from sampling import Sample, expect, in_turns, run
from watching import Results

from harness import Clone, Pool, Served
from harness.places import sandbox_works
from harness.programs import SEARCH_PATH
from subjects.hook import OWN_HOOK

GOAL = 0.025
ROUNDS = 40

# The job looks whether it is where it should be; the shell does so by itself.
RUNS = {"none": "[ ! -d /job/tree ]", "sandbox": "[ -d /job/tree ]"}

# What a sandbox costs at least: the namespaces and mounts without anything of ours.
BWRAP = ["bwrap", "--unshare-all", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin"]
BWRAP += ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc"]
BWRAP += ["--dev", "/dev", "sh", "-c", "true"]


def isolations() -> list[str]:
    return ["none", "sandbox"] if sandbox_works() else ["none"]


class Pushing:
    """Pushes to a repository with a pipeline, one changeset at a time."""

    def __init__(self, here: Room, served: Served, content: str) -> None:
        self.here = here
        self.served = served
        self.clone: Clone = here.clone(served.path.name)
        self.clone.commit({".hgci.toml": content, "README": "A repository.\n"})
        self.number = 0

    def commit(self) -> str:
        self.number += 1
        return self.clone.commit({"number": f"{self.number}\n"})

    def first(self) -> None:
        """A push before what is measured; the log is there afterwards."""
        node = self.commit()
        self.here.push(self.clone, self.served)
        daemon = self.here.daemons[0]
        daemon.final(node, next(repo for repo in daemon.repos if repo.path == self.served.path))

    def timed(self, results: Results, jobs: int, pause: float = 0.0) -> tuple[float, float]:
        """Seconds from the end of the push, and of its hook, to the final result. The result may
        be there before hg has ended: then the first is less than nothing."""
        node = self.commit()
        # What the last one left is cleared up, and nobody looks at the repository.
        time.sleep(0.05)
        with ThreadPoolExecutor(1) as watcher:
            watched = watcher.submit(results.final, node, 60, pause)
            pushed = self.here.push(self.clone, self.served)
            final = watched.result()
        build = results.build(node)
        states = [job["state"] for job in build["jobs"]] if build else []
        other = [job for job in build["jobs"] if job["state"] != "passed"] if build else []
        expect(states == ["passed"] * jobs, f"{len(other)} of {jobs} not passed: {other[:1]}")
        return final - pushed.ran.ended, final - pushed.call(OWN_HOOK).ended


def figures() -> list[Figure]:
    found = []
    with room("latency") as here:
        kinds = isolations()
        served = {kind: here.served(kind, "extension") for kind in kinds}
        pools = [Pool(kind, 2, kind, {"labels": [kind]}) for kind in kinds]
        here.daemon(list(served.values()), pools).start()
        pushing = {
            kind: Pushing(here, served[kind], pipeline(1, RUNS[kind], kind)) for kind in kinds
        }
        for kind in kinds:
            pushing[kind].first()
        logs = {kind: Results(served[kind].path) for kind in kinds}

        def timed(kind: str) -> Callable[[int], tuple[float, float]]:
            return lambda _: pushing[kind].timed(logs[kind], 1)

        times = in_turns(ROUNDS, {kind: timed(kind) for kind in kinds})
        floors = floor(kinds)
        for kind in kinds:
            beside = [Beside(*floors[kind])]
            after = Sample.of([time for time, _ in times[kind]])
            hooked = Sample.of([time for _, time in times[kind]])
            found.append(
                Figure(f"push returned → final, {kind}", after, "ms", beside, GOAL, key="final")
            )
            found.append(Figure(f"hook answered → final, {kind}", hooked, "ms", beside, GOAL))
    return found


def floor(kinds: list[str]) -> dict[str, tuple[str, float]]:
    env = {"PATH": SEARCH_PATH}
    commands = {"none": ["sh", "-c", "true"], "sandbox": BWRAP}
    works = {kind: lambda _, command=commands[kind]: run(command, env).seconds for kind in kinds}
    names = {"none": "sh -c true", "sandbox": "bwrap … sh -c true"}
    times = in_turns(20, works)
    return {kind: (names[kind], Sample.of(times[kind]).median) for kind in kinds}

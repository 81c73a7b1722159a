"""Buildbot as a peer: sqlite, one worker with two builds at a time, and a hook that posts each
changeset. Its jobs are one shell command without a checkout. It has no durable queue to lose: what
is pushed while its master is down is not built."""

from __future__ import annotations

import time
from collections.abc import Callable

from figures import Figure
from peers.buildbot import HOOK, Buildbot, NotThere
from room import Pushed, Room, memory, room
from sampling import Sample, differences, expect, in_turns

from harness import Served
from subjects import LeftOut
from subjects.hook import chain

CALL = "changegroup.buildbot"
# Changesets of a push, and rounds of it.
PUSHES = [(1, 12), (100, 1)]
JOBS = 30


def figures() -> list[Figure]:
    with room("buildbot") as here:
        try:
            peer = Buildbot(here.folder)
        except NotThere as why:
            raise LeftOut(str(why)) from None
        try:
            peer.start()
            return measured(here, peer)
        finally:
            peer.stop()


def measured(here: Room, peer: Buildbot) -> list[Figure]:
    time.sleep(5)
    idle = [Sample.of([memory(process.pid)["rss"]]) for process in peer.processes]
    found = [
        Figure("Buildbot: memory of the idle master", idle[0], "MB", key="idle"),
        Figure("Buildbot: memory of the idle worker", idle[1], "MB"),
    ]
    servers = {"none": here.served("none", None), "buildbot": here.served("buildbot", None)}
    hgrc = servers["buildbot"].hgrc
    text = f"[hooks]\n{CALL} = python:{HOOK}:post\n[buildbot]\nport = {peer.web}\n"
    hgrc.write_text(hgrc.read_text() + text)
    clone = chain(here, "clone", 2 + sum(size * rounds for size, rounds in PUSHES) + JOBS)
    position, told = 1, 2
    for served in servers.values():
        said = here.push(clone, served, str(position)).ran.said
        expect("error" not in said and "warning" not in said, f"a push said {said!r}")
    peer.wait(told)
    latencies: list[float] = []
    for size, rounds in PUSHES:

        def to(
            served: Served, heard: bool, position: int = position, size: int = size
        ) -> Callable[[int], Pushed]:
            def push(number: int) -> Pushed:
                nonlocal told
                pushed = here.push(clone, served, str(position + size * (number + 1)))
                if heard:
                    told += size
                    ended = peer.wait(told)
                    if size == 1:
                        latencies.append(ended[-1][0] - pushed.ran.ended)
                return pushed

            return push

        works = {name: to(served, name == "buildbot") for name, served in servers.items()}
        done = in_turns(rounds, works)
        position += size * rounds
        own = Sample.of([pushed.call(CALL).seconds for pushed in done["buildbot"]])
        seconds = {name: [pushed.ran.seconds for pushed in rows] for name, rows in done.items()}
        more = differences(seconds["buildbot"], seconds["none"])
        what = f"{size} changeset{'s' if size > 1 else ''}"
        found.append(
            Figure(f"Buildbot: {what}: the hook's own time", own, "ms", key=f"hook-{size}")
        )
        found.append(Figure(f"Buildbot: {what}: push minus push", more, "ms"))
    found.append(Figure("Buildbot: push returned → final", Sample.of(latencies), "ms", key="final"))
    pushed = here.push(clone, servers["buildbot"], str(position + JOBS))
    ended = peer.wait(told + JOBS)
    rate = JOBS / (ended[-1][0] - pushed.call(CALL).started)
    found.append(Figure("Buildbot: jobs that do nothing", Sample.of([rate]), "/s", key="jobs"))
    failed = [result for _, result in ended if result]
    expect(not failed, f"{len(failed)} builds of Buildbot failed")
    return found

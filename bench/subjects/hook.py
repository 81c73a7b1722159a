"""What our hooks add to a push: in the process of hg and as a program, with the daemon and without.

Each push has a partner without hooks in the same round. The difference is small against what
pushes differ by, so it is shown beside the hook's own time, taken within hg around the call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from figures import Beside, Figure
from room import Pushed, Room, room
from sampling import Sample, differences, expect, in_turns

from harness import Clone, Pool, Served
from harness.patience import eventually

KINDS = {"none": None, "extension": "extension", "program": "txnclose", "true": "noop"}
OURS = {"extension": ("in hg's process", 0.002), "program": ("as a program", 0.005)}
OWN_HOOK = "txnclose.hgci"

# Changesets of a push, and rounds of it.
FEW = [(1, 40), (100, 8)]
MANY = (10_000, 3)
DOWN = 30

RECORDED = "ci: push "
SPOOLED = "ci: daemon not reachable, push recorded; it will be built later"

# Changesets without files, in one transaction: a push of them is all that is wanted of them.
MAKE = """\
from mercurial import context
count = int(%d)
with repo.wlock(), repo.lock(), repo.transaction(b'bench'):
    parent = repo[b'tip'].node()
    for number in range(count):
        ctx = context.memctx(repo, (parent, None), b'change %%d' %% number, [], lambda *a: None,
                             b'alice', b'%%d 0' %% (1700000000 + number))
        parent = repo.commitctx(ctx)
"""


def figures() -> list[Figure]:
    found = [synced()]
    with room("hook") as here:
        servers = {name: here.served(name, kind, publish=False) for name, kind in KINDS.items()}
        large = {
            f"{name}-{number}": here.served(f"{name}-{number}", kind, publish=False)
            for number in range(MANY[1])
            for name, kind in KINDS.items()
        }
        heard = [served for name, served in {**servers, **large}.items() if has_hook(name)]
        daemon = here.daemon(heard, [Pool(isolation="none", slots=1)]).start()
        clone = chain(here, "few", 2 + sum(size * rounds for size, rounds in FEW) + DOWN)
        position = 1
        for name in KINDS:
            here.push(clone, servers[name], str(position))
        for size, rounds in FEW:
            found += pushes(here, clone, servers, position, size, rounds, RECORDED)
            position += size * rounds
        found += many(here, large)
        daemon.stop()
        found += pushes(here, clone, servers, position, 1, DOWN, SPOOLED)
        spooled = [path for served in heard for path in spool(served)]
        expect(len(spooled) == 2 * DOWN, f"{len(spooled)} hints in the spools, not {2 * DOWN}")
        daemon.start()
        eventually(lambda: not any(spool(served) for served in heard), "the spools to be drained")
    return found


def has_hook(name: str) -> bool:
    return name.split("-")[0] in OURS


def spool(served: Served) -> list[Path]:
    return list((served.path / ".hg" / "hgci" / "spool").glob("*"))


def chain(here: Room, name: str, count: int) -> Clone:
    """A repository of so many changesets, one after the other."""
    clone = here.clone(name)
    script = here.folder / "make.py"
    script.write_text(MAKE % count)
    clone("debugshell", "--config=ui.interactive=no", "-c", f"exec(open({str(script)!r}).read())")
    return clone


def pushes(
    here: Room,
    clone: Clone,
    servers: dict[str, Served],
    position: int,
    size: int,
    rounds: int,
    says: str,
) -> list[Figure]:
    """Pushes the next `size` changesets to each, so many times."""

    def to(served: Served) -> Callable[[int], Pushed]:
        return lambda number: here.push(clone, served, str(position + size * (number + 1)))

    done = in_turns(rounds, {name: to(served) for name, served in servers.items()})
    return judge(done, size, says)


def many(here: Room, servers: dict[str, Served]) -> list[Figure]:
    """Pushes everything into empty repositories."""
    size, rounds = MANY
    clone = chain(here, "many", size)

    def to(name: str) -> Callable[[int], Pushed]:
        return lambda number: here.push(clone, servers[f"{name}-{number}"])

    return judge(in_turns(rounds, {name: to(name) for name in KINDS}), size, RECORDED)


def judge(done: dict[str, list[Pushed]], size: int, says: str) -> list[Figure]:
    down = says == SPOOLED
    what = f"{size:,} changeset{'s' if size > 1 else ''}{', daemon down' if down else ''}"
    plain = [pushed.ran.seconds for pushed in done["none"]]
    # hg has work of its own with many changesets once there is any hook.
    idle = differences([pushed.ran.seconds for pushed in done["true"]], plain)
    beside = [
        Beside("push without hooks", Sample.of(plain).median),
        Beside("hook = true, minus push", idle.median),
    ]
    found = []
    key = "" if down else f"hook-{size}"
    for name, (label, goal) in OURS.items():
        for pushed in done[name]:
            expect(says in pushed.ran.said, f"a push said {pushed.ran.said!r}, not {says!r}")
        own = Sample.of([spent(pushed) for pushed in done[name]])
        floor = []
        if name == "program":
            floor = [
                Beside("hook = true", Sample.of([spent(pushed) for pushed in done["true"]]).median)
            ]
        found.append(
            Figure(f"{label}, {what}: the hook's own time", own, "ms", floor, goal, key=key)
        )
        more = differences([pushed.ran.seconds for pushed in done[name]], plain)
        # Of a few long pushes the difference says nothing.
        judged = goal if size == 1 else None
        note = ""
        if name == "extension":
            load = Sample.of([pushed.call("load-hgci").seconds for pushed in done[name]])
            note = f"of that, loading the extension: {load.median * 1e3:.2f} ms"
        found.append(
            Figure(f"{label}, {what}: push minus push", more, "ms", beside, judged, note=note)
        )
    return found


def spent(pushed: Pushed) -> float:
    """Seconds in the hook, and in what looks for changes under the lock."""
    own = pushed.call(OWN_HOOK).seconds
    return own + sum(call.seconds for call in pushed.calls if call.name == "collect")


def synced() -> Figure:
    """What one small file that is made durable costs here: there is nothing durable for less."""
    times = []
    path = Path(__file__).resolve().parents[2] / "build" / "bench-fsync"
    try:
        for _ in range(200):
            with path.open("ab") as file:
                file.write(b"x" * 300)
                file.flush()
                started = time.monotonic()
                os.fdatasync(file.fileno())
                times.append(time.monotonic() - started)
    finally:
        path.unlink(missing_ok=True)
    return Figure("floor: one fdatasync of 300 bytes", Sample.of(times), "ms")

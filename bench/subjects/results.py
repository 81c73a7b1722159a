"""1,000,000 results of 100,000 changesets: what they cost in hg log, in revsets, on disk, over a
pull and on the pages of hgweb. The file system's cache is warm."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from figures import Beside, Figure
from room import Room, room
from sampling import Ran, Sample, differences, expect, in_turns, run

from harness import Clone
from harness.programs import HG, TARGET
from harness.serving import listening

CHANGESETS, RESULTS = 100_000, 1_000_000
# How many results a changeset has.
EACH = RESULTS // CHANGESETS
NEW, FEW = 100_000, 10
SHOWN = 1000
GOAL_LOG, GOAL_REVSET, GOAL_PULL, GOAL_DISK = 1.10, 0.3, 1.0, 150e6
ROUNDS, PULLS = 15, 5
FILL = TARGET / "examples" / "fill"
OFF = "--config=extensions.hgci=!"

Work = Callable[[int], float]


def figures() -> list[Figure]:
    expect(FILL.exists(), f"{FILL} is missing; make bench builds it")
    with room("results") as here:
        here.alice.configure("[extensions]\nhgci =\n")
        here.admin.configure("[extensions]\nhgci =\n")
        served = here.clone("served")
        hg(served, "debugbuilddag", OFF, f"+{CHANGESETS}")
        nodes = hg(served, "log", OFF, "-r", "all()", "-T", "{node}\n").said.split()
        expect(len(nodes) == CHANGESETS, f"there are {len(nodes)} changesets")
        fill(served, nodes)
        log = (served.path / ".hg" / "hgci" / "results").stat().st_size
        disk = sum(file.stat().st_size for file in (served.path / ".hg" / "hgci").iterdir())
        size = Figure(
            f"{RESULTS:,} results on disk",
            Sample.of([log]),
            "MB",
            [Beside("with their index", disk)],
            goal=GOAL_DISK,
        )
        return [size, *reading(served), *pulling(here, served, nodes), *pages(served)]


def hg(clone: Clone, *words: str) -> Ran:
    return run([HG, *words], clone.hg.env, clone.path)


def fill(clone: Clone, nodes: Sequence[str], first: int = 0) -> None:
    """Ten results for each of the changesets."""
    command = [str(FILL), str(clone.path / ".hg"), str(len(nodes) * EACH), str(first)]
    subprocess.run(command, input="\n".join(nodes), text=True, check=True)


def reading(clone: Clone) -> list[Figure]:
    """What is shown of changesets."""

    def log(template: str) -> Work:
        return lambda _: hg(clone, "log", "-l", str(SHOWN), "-T", template + "\n").seconds

    def revset(text: str) -> Work:
        return lambda _: hg(clone, "log", "-r", text, "-T", "{rev}\n").seconds

    first = revset("last(ci(failed))")(0)
    works = {
        "node": log("{node}"),
        "state": log("{ci_state}"),
        "failed": revset("last(ci(failed))"),
        "job": revset('last(ci(failed, "test:3.13"))'),
        "tip": revset("last(all())"),
    }
    in_turns(1, works)
    times = in_turns(ROUNDS, works)
    node = Beside("{node}", Sample.of(times["node"]).median)
    tip = Beside("last(all())", Sample.of(times["tip"]).median)
    return [
        Figure(
            f"hg log -l {SHOWN} -T '{{ci_state}}'",
            Sample.of(times["state"]),
            "ms",
            [node],
            goal=node.value * GOAL_LOG,
        ),
        Figure(
            "hg log -r 'last(ci(failed))'", Sample.of(times["failed"]), "ms", [tip], GOAL_REVSET
        ),
        Figure("last(ci(failed, JOB))", Sample.of(times["job"]), "ms", [tip]),
        Figure("the first, which sums up the log", Sample.of([first]), "ms"),
    ]


def pulling(here: Room, served: Clone, nodes: Sequence[str]) -> list[Figure]:
    """A pull of results alone, over http."""
    clone = here.alice.clone(served.path, here.folder / "clone", "--noupdate", OFF)
    ours = clone.path / ".hg" / "hgci"
    builds = NEW // EACH
    with http(served) as url:
        clone.configure(f"[paths]\ndefault = {url}\n")

        def pull(*words: str) -> float:
            return hg(clone, "pull", *words).seconds

        def had() -> int:
            return len(hg(clone, "log", "-r", "ci()", "-T", ".").said)

        whole = pull("--config=hgci.exchange-limit=1GB")
        expect(had() == CHANGESETS, "not all results came")
        kept = here.folder / "kept"
        shutil.copytree(ours, kept)
        many, few, empty = [], [], []
        plain = []
        number = CHANGESETS
        for turn in range(PULLS):
            # What was tried again: newer builds of the same changesets.
            fill(served, nodes[turn * builds : (turn + 1) * builds], number)
            number += builds
            many.append(pull())
        for turn in range(ROUNDS):
            fill(served, nodes[-turn - 1 :][:1], number)
            number += 1
            few.append(pull())
            empty.append(pull())
            plain.append(pull(OFF))
        got = (clone.path / ".hg" / "hgci").rglob("results")
        expect(sum(file.stat().st_size for file in got) > 0, "nothing was received")
    nothing = Beside("a pull of nothing", Sample.of(empty).median)
    without = Beside("without hgci", Sample.of(plain).median)
    return [
        Figure(f"hg pull of {NEW:,} new results", Sample.of(many), "ms", [nothing], GOAL_PULL),
        Figure(f"hg pull of {FEW} new results", Sample.of(few), "ms", [nothing, without]),
        Figure("more than a pull of nothing", differences(few, empty), "ms"),
        Figure("hg pull of nothing", Sample.of(empty), "ms", [without]),
        Figure("more than without hgci", differences(empty, plain), "ms"),
        Figure(f"hg pull of {RESULTS:,} results", Sample.of([whole]), "s"),
    ]


def pages(served: Clone) -> list[Figure]:
    """What hgweb takes for a page of changesets."""
    found = {}
    for name, words in {"with": (), "without": (OFF,)}.items():
        with http(served, *words) as url:
            get(url)
            found[name] = [get(url) for _ in range(ROUNDS)]
    without = Beside("without hgci", Sample.of(found["without"]).median)
    return [Figure("hgweb's shortlog", Sample.of(found["with"]), "ms", [without])]


def get(url: str) -> float:
    begun = time.monotonic()
    with urllib.request.urlopen(f"{url}shortlog") as answer:
        text = answer.read()
    expect(b"</html>" in text, "the page is not whole")
    return time.monotonic() - begun


@contextlib.contextmanager
def http(clone: Clone, *words: str) -> Iterator[str]:
    command = [str(HG), "serve", "--address", "127.0.0.1", "--port", "0", *words]
    with listening(command, clone.hg.env, Path(clone.path)) as url:
        yield url

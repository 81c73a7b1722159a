"""What the extension adds to a command that has nothing to do with it: `hg id`."""

from __future__ import annotations

from figures import Beside, Figure
from room import room
from sampling import Sample, differences, expect, in_turns, run

from harness import Clone
from harness.programs import HG

GOAL = 0.003
ROUNDS = 100

# The least that any extension can be.
EMPTY = '"""an extension that does nothing"""\n'


def figures() -> list[Figure]:
    with room("start-up") as here:
        clone = here.clone("widgets")
        clone.commit({"README": "A repository.\n"})
        empty = here.folder / "empty.py"
        empty.write_text(EMPTY)
        works = {
            "plain": lambda _: timed(clone),
            "empty": lambda _: timed(clone, f"--config=extensions.empty={empty}"),
            "hgci": lambda _: timed(clone, "--config=extensions.hgci="),
        }
        in_turns(3, works)
        times = in_turns(ROUNDS, works)
        said = run([HG, "help", "ci-status", "--config=extensions.hgci="], clone.hg.env, clone.path)
        expect("ci-status" in said.said, "the extension is not there")
    plain = Beside("hg id", Sample.of(times["plain"]).median)
    nothing = Beside("an empty one adds", differences(times["empty"], times["plain"]).median)
    more = differences(times["hgci"], times["plain"])
    return [
        Figure("hg id, with hgci loaded", Sample.of(times["hgci"]), "ms", [plain]),
        Figure("more than hg id", more, "ms", [nothing], GOAL),
    ]


def timed(clone: Clone, *words: str) -> float:
    return run([HG, *words, "id"], clone.hg.env, clone.path).seconds

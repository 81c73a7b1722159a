"""The source tree of one changeset, as large as Mercurial's own: ours, what hg has for it, and a
plain copy. The file system's cache is warm for all."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from figures import Beside, Figure
from room import Room, room, words
from sampling import Sample, expect, in_turns, run

from harness import Clone
from harness.programs import HG, TARGET

FILES, BYTES = 2619, 40_000_000
FOLDERS = 160
ROUNDS = 5
TIMES = 4
PROGRAM = TARGET / "examples" / "source_tree"


def figures() -> list[Figure]:
    expect(PROGRAM.exists(), f"{PROGRAM} is missing; make bench builds it")
    with room("source-tree") as here:
        clone, node = repository(here)
        # Each writes into a folder of its own, all of which stay to the end: some file systems give
        # no inode again for a while, and whoever comes after a removal is slow.
        outs, tree = here.folder / "outs", here.folder / "tree"
        outs.mkdir()
        working = here.alice.clone(clone.path, here.folder / "working", "--noupdate", "--pull")
        archive = [HG, "archive", "--no-decode", "-r", node]
        run([*archive, tree], clone.hg.env, clone.path)

        def hg(*words: str | Path, at: Path = clone.path) -> float:
            return run([HG, *words], clone.hg.env, at).seconds

        def ours(*words: Path) -> float:
            return float(run([PROGRAM, clone.path, node, *words], clone.hg.env).said)

        def update(_: int) -> float:
            took = hg("update", "-q", node, at=working.path)
            hg("update", "-q", "null", at=working.path)
            return took

        def to(name: str, work: Callable[[Path], float]) -> Callable[[int], float]:
            return lambda number: work(outs / f"{name}-{number}")

        times = in_turns(
            ROUNDS,
            {
                "stream": lambda _: ours(),
                "unpack": to("ours", ours),
                "hg archive": to("hg", lambda out: hg(*archive[1:], out)),
                "hg update": update,
                "cp -r": to("cp", lambda out: run(["cp", "-r", tree, out]).seconds),
            },
        )
        same = run(["diff", "-r", tree, outs / "ours-0"], status=None).said
        expect(not same, f"our tree is not that of hg archive: {same[:500]}")
    samples = {name: Sample.of(values) for name, values in times.items()}
    peers = [Beside(name, samples[name].median) for name in ("hg archive", "hg update", "cp -r")]
    what = f"{FILES:,} files, {BYTES / 1e6:.0f} MB"
    return [
        Figure(f"{what}: read and streamed", samples["stream"], "ms", peers, times=TIMES),
        Figure(f"{what}: streamed and unpacked", samples["unpack"], "ms", peers, times=TIMES),
    ]


def repository(here: Room) -> tuple[Clone, str]:
    """Text that compresses about as source code does, in revisions, so that there are deltas."""
    clone = here.clone("tree")
    source = random.Random(2619)
    vocabulary = words(40)
    node = ""
    for revision in range(4):
        files = {}
        for number in range(FILES):
            name = f"dir{number % FOLDERS % 20}/sub{number % FOLDERS}/file{number}.py"
            if revision == 0:
                text = lines(source, vocabulary, round(source.uniform(0.1, 1.9) * BYTES / FILES))
            elif number % 4 == revision:
                # Something changes in the middle of every fourth.
                text = (clone.path / name).read_text()
                middle = len(text) // 2
                text = text[:middle] + lines(source, vocabulary, 100) + text[middle + 100 :]
            else:
                continue
            files[name] = text
        node = clone.commit(files, f"revision {revision}")
    return clone, node


def lines(source: random.Random, vocabulary: list[str], size: int) -> str:
    """So many characters of text."""
    parts, length = [], 0
    while length < size:
        indent = "    " * source.randrange(4)
        line = indent + " ".join(source.choices(vocabulary, k=source.randrange(1, 10))) + "\n"
        # As in source code much is said again.
        copies = 2 if source.random() < 0.3 else 1
        parts.append(line * copies)
        length += len(line) * copies
    return "".join(parts)[:size]

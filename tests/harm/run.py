#!/usr/bin/env python3
"""Runs a part of Mercurial's own tests with the extension, and finds what that changes.

What a test says without the extension is compared, line by line, with what it says when client and
servers have it. expected.toml lists the differences that must be; one that is not listed fails, and
so does one that is listed and does not occur. A test that passes with the extension says what
Mercurial's authors expect of Mercurial alone, so it is not run without, but for --both.

A difference that a second or a third look does not find again is the test's own. Outputs and what
is left of differences are in build/harm.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from compare import Difference, Rule, compare, lines_of, no_longer, read_rules

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build"
EXPECTED = Path(__file__).with_name("expected.toml")
NAMED = re.compile(
    r"acl|bookmark|bundle|clone|exchange|extension|hgweb|hook|http|log|obsolete|phase|pull|push"
    r"|revset|share|ssh|template|wireproto"
)
# Only sounds like it: a storage with 5,000 changesets, which takes longer than all others.
NOT_MEANT = "sparse-revlog"
# How often a difference must be found to be believed.
LOOKS = 3
# In seconds, for one test: a machine that is busy with something else is no difference.
TIMEOUT = 1200


@dataclass
class Place:
    """Where the Mercurial to be tested is, its tests are, and outputs go."""

    venv: Path = BUILD / "venv" / "bin"
    tests: Path = BUILD / "hg-tests" / "tests"
    outputs: Path = BUILD / "harm"


@dataclass
class Output:
    """What a test said, and how it ended."""

    result: str
    lines: list[str]

    @property
    def skipped(self) -> bool:
        return self.result == "skip"

    def all_lines(self) -> list[str]:
        """The output, or why there is none."""
        return self.lines or [f"({self.result})\n"]


# Of several tests, by their names, with the case where they have cases.
Outputs = dict[str, Output]


@cache
def shorthands(tests: Path) -> list[tuple[bytes, Any]]:
    """What run-tests.py calls by a name of its own, and the name."""
    return runpy.run_path(str(tests / "common-pattern.py"))["substitutions"]


def shorten(text: str) -> str:
    raw = text.encode("latin-1")
    for pattern, name in shorthands(Place.tests):
        raw = re.sub(pattern, name, raw)
    return raw.decode("latin-1")


@dataclass
class Seen:
    """The outputs of one test, of each look at it."""

    without: list[Output] = field(default_factory=list)
    with_it: list[Output] = field(default_factory=list)

    def difference(self, rules: list[Rule]) -> Difference:
        """The least that differs between an output without and one with the extension."""
        pairs = [(one, other) for one in self.without for other in self.with_it]
        found = [
            compare(one.all_lines(), other.all_lines(), rules, shorten) for one, other in pairs
        ]
        return min(found, key=lambda difference: len(difference.left))


def chosen(tests: Path) -> list[str]:
    """Names of the tests that are about what the extension touches."""
    names = (path.name for pattern in ("test-*.t", "test-*.py") for path in tests.glob(pattern))
    return sorted(name for name in names if NAMED.search(name) and NOT_MEANT not in name)


def run(place: Place, name: str, tests: list[str], extension: bool, options: list[str]) -> Outputs:
    """Runs tests, and returns what they said."""
    outputs = place.outputs / name
    shutil.rmtree(outputs, ignore_errors=True)
    outputs.mkdir(parents=True)
    command = [place.venv / "python", "run-tests.py", "--with-hg", place.venv / "hg", "--json"]
    command += ["--timeout", str(TIMEOUT), "--outputdir", outputs, *options]
    if extension:
        command += ["--extra-config-opt", "extensions.hgci="]
    # Whether Python buffers, for one, decides on the order of lines.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HG", "PYTHON"))}
    env["PATH"] = f"{place.venv}{os.pathsep}{env['PATH']}"
    # The python3 of run-tests.py is a link to that of the venv, which does not know it is one.
    env["PYTHONPATH"] = str(next((place.venv.parent / "lib").glob("python3.*/site-packages")))
    print(f"{len(tests)} tests, {name}", flush=True)
    with (outputs / "run-tests.out").open("wb") as log:
        # What failed is in the report.
        done = subprocess.run(
            [*command, *tests],
            cwd=place.tests,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    # Whoever ended it wants no comparison of halves.
    if done.returncode not in (0, 1):
        sys.exit(f"run-tests.py ended with {done.returncode}, see {log.name}")
    report = (outputs / "report.json").read_text().partition("=")[2]
    found = {
        test: Output(entry["result"], said(place.tests, outputs, test, entry["result"]))
        for test, entry in json.loads(report).items()
    }
    # The report is silent of tests that could not be run.
    for lost in set(tests) - {file_of(test) for test in found}:
        found[lost] = Output("error", [])
    return found


def said(tests: Path, outputs: Path, test: str, result: str) -> list[str]:
    """The lines of a test's output; none where it was skipped or did not end."""
    path = outputs / f"{test}.err"
    if result == "success":
        path = tests / file_of(test)
        if path.suffix == ".py":
            path = path.with_suffix(".py.out")
    if result == "skip" or not path.exists():
        return []
    # Bytes of any encoding, as they are.
    return lines_of(path.read_bytes().decode("latin-1"))


def file_of(test: str) -> str:
    """The file of a test: without the case."""
    return test.partition("#")[0]


def look(place: Place, tests: list[str], both: bool, options: list[str]) -> dict[str, Seen]:
    """The outputs of all tests, once with the extension and, where that may matter, without."""
    seen = {
        test: Seen(with_it=[output])
        for test, output in run(place, "with", tests, True, options).items()
    }
    again = sorted({file_of(test) for test, one in seen.items() if not passed(one)})
    if both:
        again = tests
    without = run(place, "without", again, False, options) if again else {}
    for test, one in seen.items():
        ran = file_of(test) in again
        one.without += [without.get(test, Output("missing", []))] if ran else one.with_it
    return seen


def passed(seen: Seen) -> bool:
    return all(output.result == "success" for output in seen.with_it)


def look_again(
    place: Place, seen: dict[str, Seen], rules: list[Rule], options: list[str]
) -> list[str]:
    """Runs what differs once more and once more, and returns what did so only at times."""
    at_first = unlisted(seen, rules)
    for count in range(2, LOOKS + 1):
        again = sorted({file_of(test) for test in unlisted(seen, rules)})
        if not again:
            break
        for extension, name in ((False, "without"), (True, "with")):
            for test, output in run(place, f"{name}-{count}", again, extension, options).items():
                if test in seen:
                    (seen[test].with_it if extension else seen[test].without).append(output)
    return sorted(set(at_first) - set(unlisted(seen, rules)))


def unlisted(seen: dict[str, Seen], rules: list[Rule]) -> list[str]:
    return [test for test, one in seen.items() if one.difference(of(rules, test)).left]


def of(rules: list[Rule], test: str) -> list[Rule]:
    return [rule for rule in rules if file_of(test) in rule.tests]


def report(
    place: Place, seen: dict[str, Seen], rules: list[Rule], at_times: list[str], some: bool
) -> int:
    """Prints what was found in all tests or in some; returns how many failed."""
    used: dict[str, set[str]] = {}
    failed = 0
    for test, one in sorted(seen.items()):
        difference = one.difference(of(rules, test))
        if not one.with_it[-1].skipped:
            used.setdefault(file_of(test), set()).update(difference.used)
        if difference.left:
            failed += 1
            text = "".join(difference.left)
            (place.outputs / f"{test}.diff").write_bytes(text.encode("latin-1"))
            print(f"\n{test}: not listed in {EXPECTED.name}:\n{text}")
    for test in at_times:
        print(f"{test}: differs from run to run")
    for name, test in no_longer(rules, used):
        failed += 1
        print(f"{test}: {name} is listed in {EXPECTED.name}, and does not occur")
    if not some:
        for test in sorted(
            {test for rule in rules for test in rule.tests} - set(map(file_of, seen))
        ):
            failed += 1
            print(f"{test}: is listed in {EXPECTED.name}, and not among the tests")
    for rule in rules:
        print(f"{len(rule.tests):4} tests have {rule.name}")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tests", nargs="*", help="files of tests; all that are named for it")
    parser.add_argument("--both", action="store_true", help="run all without the extension too")
    parser.add_argument("-j", "--jobs", default=str(min(os.cpu_count() or 1, 4)))
    parser.add_argument("--port", default="26000", help="the first of some thousand ports")
    asked = parser.parse_args()
    place = Place()
    rules = read_rules(EXPECTED)
    options = ["-j", asked.jobs, "--port", asked.port]
    shutil.rmtree(place.outputs, ignore_errors=True)
    seen = look(place, asked.tests or chosen(place.tests), asked.both, options)
    at_times = look_again(place, seen, rules, options)
    failed = report(place, seen, rules, at_times, bool(asked.tests))
    skipped = sum(one.with_it[-1].skipped for one in seen.values())
    print(f"# Ran {len(seen) - skipped} tests, {skipped} skipped, {failed} failed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

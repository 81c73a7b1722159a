#!/usr/bin/env python3
"""Runs the test suites one after the other and counts what they say.

With names of suites as arguments (or patterns: `hg-*`), those alone, and also those that are not
part of `make test`. The last line of output is `N passed, N failed`, with `, N skipped` where there
are any; the exit status is 1 when something failed, also when a suite ended badly without naming a
test.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
VENV = BUILD / "venv" / "bin"
OLDEST = BUILD / "venv-oldest" / "bin"
DEBIAN12 = BUILD / "venv-debian12" / "bin"
WITH_CHG = ["--with-chg", str(BUILD / "hg-tests" / "contrib" / "chg" / "chg")]
# The suites of one machine share it; Mercurial's own runner needs no more than this.
JOBS = str(min(os.cpu_count() or 1, 4))

Counts = tuple[int, int, int]


@dataclass
class Suite:
    """A command, and how to read passed, failed and skipped out of what it printed."""

    name: str
    command: list[str]
    count: Callable[[str], Counts]
    cwd: Path = ROOT
    env: dict[str, str] = field(default_factory=dict)
    # Whether it runs only when it is asked for.
    extra: bool = False
    # What may be missing on this machine; then the suite is left out.
    needs: Path | None = None


@dataclass
class Outcome:
    suite: Suite
    counts: Counts
    status: int
    seconds: float

    @property
    def failed(self) -> int:
        """Failed tests; a suite that ended badly without naming one counts as one."""
        return self.counts[1] or int(self.status != 0)


def count_cargo(output: str) -> Counts:
    pattern = r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored"
    found = [tuple(map(int, row)) for row in re.findall(pattern, output, re.MULTILINE)]
    return tuple(map(sum, zip(*found))) if found else (0, 0, 0)  # type: ignore[return-value]


def count_hg(output: str) -> Counts:
    pattern = r"^# Ran (\d+) tests, (\d+) skipped, (\d+) failed"
    ran, skipped, failed = map(int, (re.findall(pattern, output, re.MULTILINE) or [(0, 0, 0)])[-1])
    return ran - failed, failed, skipped


def count_junit(path: Path) -> Callable[[str], Counts]:
    def count(_output: str) -> Counts:
        if not path.exists():
            return 0, 0, 0
        total = failed = skipped = 0
        for suite in ElementTree.parse(path).getroot().iter("testsuite"):
            total += int(suite.get("tests", 0))
            failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped += int(suite.get("skipped", 0))
        return total - failed - skipped, failed, skipped

    return count


def suites() -> Iterator[Suite]:
    cargo = os.environ.get("CARGO", "cargo")
    test = [cargo, "test", "--release", "--locked", "--no-fail-fast"]
    yield Suite("rust", [*test, "--workspace"], count_cargo)
    if (ROOT / "hgext" / "Cargo.toml").exists():
        yield Suite(
            "hgext-rust",
            test,
            count_cargo,
            cwd=ROOT / "hgext",
            env={
                "CARGO_TARGET_DIR": os.environ["HGCI_HGEXT_TARGET"],
                "PYO3_PYTHON": str(VENV / "python"),
            },
        )
    scripts = sorted(str(path) for path in (ROOT / "tests").glob("*.t"))
    if scripts:
        yield hg_suite("hg", VENV / "hg", scripts)
        yield hg_suite("hg-oldest", OLDEST / "hg", scripts)
        # Under chg, which takes a tenth of the time.
        yield hg_suite("hg-debian12", DEBIAN12 / "hg", scripts, WITH_CHG)
        yield from extra_hg_suites(scripts)
    # The extension at each end of every transport; what else hgci does has little to do with hg.
    transports = ["tests/hooks/test_hook_transports.py", "-k", "extension and not gunicorn"]
    yield pytest_suite("hooks-oldest", transports, {"HGCI_TEST_HG": str(OLDEST / "hg")})
    folders = [folder for folder in ("tests", "hgext/tests") if (ROOT / folder).is_dir()]
    # Such a test waits for a daemon more than it works, so there is room for several.
    yield pytest_suite("black-box", ["-n", JOBS, "--dist", "worksteal", *folders])
    yield harm_suite()


def extra_hg_suites(scripts: list[str]) -> Iterator[Suite]:
    """The `.t` files in more ways, which cost more than they often find."""
    ways = {
        "hg-pure": (VENV, ["--pure"]),
        "hg-chg": (VENV, WITH_CHG),
        "hg-oldest-pure": (OLDEST, ["--pure"]),
        "hg-debian12-plain": (DEBIAN12, []),
    }
    for venv in sorted(BUILD.glob("venv-python3.*/")):
        ways[f"hg-{venv.name[5:]}"] = (venv / "bin", [])
    for name, (venv, options) in ways.items():
        suite = hg_suite(name, venv / "hg", scripts, options)
        suite.extra = True
        yield suite


def hg_suite(name: str, hg: Path, scripts: list[str], ways: Sequence[str] = ()) -> Suite:
    """The `.t` files with one version of Mercurial."""
    runner = BUILD / "hg-tests" / "tests" / "run-tests.py"
    outputs = BUILD / "hg-output" / name
    outputs.mkdir(parents=True, exist_ok=True)
    # Two runs at a time on one machine are not to take the same ports.
    port = 20000 + os.getpid() % 800 * 15
    options = ["--with-hg", str(hg), "-j", JOBS, "--outputdir", str(outputs), "--port", str(port)]
    # A machine that is busy with something else is no failure.
    options += ["--timeout", "1800"]
    command = [str(VENV / "python"), str(runner), *ways, *options, *scripts]
    return Suite(name, command, count_hg, cwd=ROOT / "tests", needs=hg)


def harm_suite() -> Suite:
    """A part of Mercurial's own tests, with the extension and without."""
    command = [str(VENV / "python"), str(ROOT / "tests" / "harm" / "run.py"), "--jobs", JOBS]
    runner = BUILD / "hg-tests" / "tests" / "run-tests.py"
    return Suite("harm", command, count_hg, extra=True, needs=runner)


def pytest_suite(name: str, what: list[str], env: dict[str, str] | None = None) -> Suite:
    junit = BUILD / f"pytest-{name}.xml"
    junit.unlink(missing_ok=True)
    command = [str(VENV / "python"), "-m", "pytest", f"--junitxml={junit}", *what]
    return Suite(name, command, count_junit(junit), env=env or {})


def run(suite: Suite) -> Outcome:
    print(f"\n=== {suite.name}: {' '.join(suite.command[:8])} …", flush=True)
    started = time.monotonic()
    process = subprocess.Popen(
        suite.command,
        cwd=suite.cwd,
        env=os.environ | suite.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    output = []
    for line in process.stdout:
        output.append(line)
        sys.stdout.write(line)
        sys.stdout.flush()
    status = process.wait()
    return Outcome(suite, suite.count("".join(output)), status, time.monotonic() - started)


def is_asked_for(suite: Suite, names: list[str]) -> bool:
    if not names:
        return not suite.extra
    return any(fnmatchcase(suite.name, name) for name in names)


def main(names: list[str]) -> int:
    known = list(suites())
    chosen = [suite for suite in known if is_asked_for(suite, names)]
    unknown = [name for name in names if not any(fnmatchcase(one.name, name) for one in known)]
    if unknown:
        print(f"run-suites: no such suite: {', '.join(unknown)}", file=sys.stderr)
        return 2
    left_out = [suite.name for suite in chosen if suite.needs and not suite.needs.exists()]
    chosen = [suite for suite in chosen if suite.name not in left_out]
    outcomes = []
    for suite in chosen:
        outcomes.append(run(suite))
        if suite.name == "rust":
            # Testing a workspace relinks its programs; put the static ones back.
            subprocess.run([ROOT / "scripts" / "build-binaries"], check=True)
    print()
    for outcome in outcomes:
        passed, _, skipped = outcome.counts
        print(
            f"{outcome.suite.name:14} {passed:5} passed {outcome.failed:4} failed"
            f" {skipped:4} skipped {outcome.seconds:7.1f} s"
            + (f"  (exit status {outcome.status})" if outcome.status else "")
        )
    for name in left_out:
        print(f"{name:14} left out: no Mercurial of that version for the Pythons on this machine")
    passed = sum(outcome.counts[0] for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    skipped = sum(outcome.counts[2] for outcome in outcomes)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

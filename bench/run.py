#!/usr/bin/env python3
"""`make bench`: every figure that we care for, beside floors and peers, in one run.

`make bench ONLY=hook,jobs` measures some. Prints one table at the end, and writes the same to
build/bench.json. It never fails by the clock: the exit status is 1 only when something could not be
measured, or did not do what it should.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import machine  # noqa: E402
from figures import Section, join, table  # noqa: E402
from subjects import SUBJECTS, LeftOut  # noqa: E402

JSON = ROOT / "build" / "bench.json"


def measure(subject: str) -> Section:
    section = Section(subject)
    started = time.monotonic()
    print(f"--- {subject}: {SUBJECTS[subject]}", file=sys.stderr, flush=True)
    try:
        section.figures = importlib.import_module(f"subjects.{subject}").figures()
    except LeftOut as why:
        section.skipped = str(why)
    except Exception as error:  # What goes wrong with one is no reason to leave out the others.
        # All of it is in the traceback.
        section.failure = (str(error) or repr(error))[:200]
        traceback.print_exc()
    section.seconds = time.monotonic() - started
    return section


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench")
    parser.add_argument("only", nargs="*", help=f"of {', '.join(SUBJECTS)}")
    asked = [name for word in parser.parse_args().only for name in word.split(",") if name]
    unknown = [name for name in asked if name not in SUBJECTS]
    if unknown:
        parser.error(f"no such subject: {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    where = machine.describe(JSON.parent)
    sections = [measure(subject) for subject in SUBJECTS if not asked or subject in asked]
    for section in sections:
        if section.subject == "buildbot":
            join(sections, section, "Buildbot")
    JSON.write_text(
        json.dumps(
            {
                "machine": where,
                "sections": {
                    section.subject: {
                        "skipped": section.skipped,
                        "failure": section.failure,
                        "figures": [figure.as_json() for figure in section.figures],
                    }
                    for section in sections
                },
            },
            indent=1,
        )
        + "\n"
    )
    print(f"\n{machine.shown(where)}\n\n{table(sections)}\n", flush=True)
    failed = [section.subject for section in sections if section.failure]
    if failed:
        print(f"bench: not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

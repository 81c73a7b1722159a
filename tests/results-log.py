"""Appends a build to a results log, for tests of what reads it: results-log.py DOT_HG NODE BUILD
STATE [JOB=STATE…]. With `-` for STATE the build has not ended. Every job took 3.21 s; one that
failed did so with status 2, and one whose name starts with `test` has 43 tests.

HGCI_TEST_DAEMON names the daemon that says so, HGCI_TEST_URL its web pages and HGCI_TEST_WHY why
a job is what it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
APPEND = TARGET / "release" / "examples" / "append"


def entries(node: str, build: int, state: str, jobs: list[str]) -> list[dict[str, Any]]:
    url = os.environ.get("HGCI_TEST_URL", "")
    daemon = os.environ.get("HGCI_TEST_DAEMON", "d") * 32
    found: list[dict[str, Any]] = [{"Origin": {"daemon": daemon, "repo": "r", "url": url}}]
    base = {"node": node, "push": 9, "build": build}
    for index, job in enumerate(jobs):
        name, job_state = job.rsplit("=", 1)
        ran = job_state in ("passed", "failed", "timed-out")
        tests = {"passed": 40, "failed": 2, "skipped": 1} if name.startswith("test") else None
        found.append(
            {
                "Job": {
                    **base,
                    "index": index,
                    "name": name,
                    "state": job_state,
                    "attempt": int(ran),
                    "exit": {"passed": 0, "failed": 2}.get(job_state),
                    "signal": None,
                    "started_ms": 1_763_650_000_500 if ran else 0,
                    "duration_ms": 3210 if ran else 0,
                    "pool": "here" if ran else "",
                    "host": "here/1" if ran else "",
                    "tests": tests if ran else None,
                    "allow_failure": name.endswith("?"),
                    "why": os.environ.get("HGCI_TEST_WHY"),
                }
            }
        )
    if state != "-":
        message = None if jobs else ".hgci.toml:3:7: unknown key"
        end = {**base, "state": state, "ended_ms": 1_763_650_009_000, "jobs": len(jobs)}
        found.append({"Build": {**end, "message": message}})
    return found


def main() -> None:
    dot_hg, node, build, state, *jobs = sys.argv[1:]
    lines = "\n".join(map(json.dumps, entries(node, int(build), state, jobs)))
    subprocess.run([str(APPEND), dot_hg], input=lines, text=True, check=True)


if __name__ == "__main__":
    main()

"""What is measured, one module for each subject, with a function `figures`."""

from __future__ import annotations

# In the order of the table: the name for `make bench ONLY=`, and what it is about.
SUBJECTS = {
    "hook": "what the hooks add to a push",
    "latency": "from the end of a push to the final result",
    "jobs": "jobs that do nothing, a second",
    "idle": "memory of a daemon that has nothing to do",
    "pending": "100,000 jobs pending",
    "source_tree": "the source tree of a changeset",
    "start_up": "what the extension adds to the start of hg",
    "ci_status": "hg ci-status on a log of 1,000,000 results",
    "results": "1,000,000 results of 100,000 changesets: hg log, revsets, pulls, pages",
    "buildbot": "Buildbot, as a peer: what it has of the same",
}


class LeftOut(Exception):
    """A subject cannot be measured here, and that is nobody's mistake."""

"""Processes that outlived their time: what the daemon, a runner or a job left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def processes_of(folder: Path) -> Iterator[tuple[int, str]]:
    """Processes, this one aside, whose command or environment names something in `folder`: the
    number, and the command as text. All that a test starts does."""
    mark = os.fsencode(folder)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            # An empty command line is a kernel thread, or a process that has ended.
            if command and (mark in command or mark in (entry / "environ").read_bytes()):
                yield int(entry.name), command.replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue


def is_running(command: str) -> bool:
    """Whether any process has this command, with one space between its words."""
    wanted = os.fsencode(command.replace(" ", "\0") + "\0")
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes() == wanted:
                return True
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return False


def runners_of(folder: Path) -> list[int]:
    """The hgci-runner processes among them. A child that a runner has just forked has its command
    until it executes its own, and is left out."""
    runners = [
        number
        for number, command in processes_of(folder)
        if "hgci-runner" in command.split(" ", 1)[0] and " --attempt " in command
    ]
    return [number for number in runners if parent_of(number) not in runners]


def parent_of(number: int) -> int | None:
    """The parent of a process, `None` when it has ended."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command, in parentheses, may have any characters.
    return int(stat.rpartition(")")[2].split()[1])

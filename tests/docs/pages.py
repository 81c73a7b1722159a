"""The pages of the manual, taken apart: links, headings, blocks, tables."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from harness.programs import ROOT


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Page:
    """A page, by its path from the root of the repository."""

    name: str

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @cached_property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    @cached_property
    def blocks(self) -> list[Block]:
        found, lines = [], iter(enumerate(self.lines, 1))
        for number, line in lines:
            # Blocks within lists are indented.
            if opened := re.match(r"( *)```(\S*)$", line):
                text = []
                for _, inner in lines:
                    if inner.strip() == "```":
                        break
                    text.append(inner[len(opened[1]) :])
                found.append(Block(opened[2], "".join(f"{row}\n" for row in text), number))
        return found

    @cached_property
    def prose(self) -> str:
        """The page without its blocks."""
        inside = False
        rows = []
        for line in self.lines:
            if line.strip().startswith("```"):
                inside = not inside
            elif not inside and not line.startswith("    "):
                rows.append(line)
        return "\n".join(rows)

    @cached_property
    def anchors(self) -> set[str]:
        """What `#…` of a link can name, as forges make it of headings."""
        found: set[str] = set()
        for heading in re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE):
            kept = re.sub(r"[^\w\- ]", "", heading.lower())
            found.add(kept.strip().replace(" ", "-"))
        return found

    @property
    def links(self) -> Iterator[str]:
        for target in re.findall(r"\]\(([^)\s]+)\)", self.prose):
            if not re.match(r"[a-z]+:", target):
                yield target

    @property
    def spans(self) -> list[str]:
        """What is written as code in running text."""
        return [span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", self.prose)]

    def tables(self) -> Iterator[tuple[str, list[str], list[list[str]]]]:
        """Each table with the heading that it stands below, its head and its rows."""
        heading, rows = "", []
        for line in [*self.prose.splitlines(), ""]:
            if line.startswith("#"):
                heading = line.lstrip("# ")
            if line.startswith("|"):
                cells = re.split(r"(?<!\\)\|", line.strip())[1:-1]
                rows.append([cell.strip().replace("\\|", "|") for cell in cells])
            elif rows:
                yield heading, rows[0], rows[2:]
                rows = []


def pages() -> list[Page]:
    """Every page of the repository, those not yet added among them."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "--", "*.md"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    names = [os.fsdecode(name) for name in output.splitlines()]
    return [Page(name) for name in names if (ROOT / name).is_file()]


def page(name: str) -> Page:
    return Page(name)

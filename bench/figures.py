"""What was measured: figures, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sampling import Sample

# How many of the unit a stored value has, and digits after the point.
UNITS = {"ms": (1e3, 2), "s": (1.0, 3), "/s": (1.0, 0), "MB": (1e-6, 1)}


@dataclass(frozen=True)
class Beside:
    """What stands beside a figure: a floor, or a peer. Measured in the same run."""

    name: str
    value: float


@dataclass(frozen=True)
class Figure:
    """One line of the table. Values are seconds, bytes, or a number a second."""

    name: str
    ours: Sample
    unit: str
    beside: Sequence[Beside] = ()
    # Not to be exceeded; of rates, not to be fallen short of.
    goal: float | None = None
    # Where the goal is a multiple of the first thing beside it.
    times: float | None = None
    note: str = ""
    # By which it is found beside a peer's figure of the same.
    key: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the median is within the goal; `None` where there is none."""
        value = self.ours.median
        if self.times is not None:
            return self.beside[0].value >= self.times * value
        if self.goal is None:
            return None
        return value >= self.goal if self.unit == "/s" else value <= self.goal

    def shown(self, value: float) -> str:
        factor, digits = UNITS[self.unit]
        return f"{value * factor:.{digits}f} {self.unit}"

    @property
    def goal_shown(self) -> str:
        if self.times is not None:
            return f"{self.times:g} × {self.beside[0].name}"
        if self.goal is None:
            return ""
        return f"{'≥' if self.unit == '/s' else '≤'} {self.shown(self.goal)}"

    def ratio(self, beside: Beside) -> str:
        """How many times the other's value ours is."""
        value = self.ours.median
        if beside.value <= 0 or value <= 0:
            return ""
        ratio = value / beside.value
        return f"{ratio:.2f} ×" if ratio < 10 else f"{ratio:.0f} ×"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.ours.median,
            "min": self.ours.low,
            "max": self.ours.high,
            "p99": self.ours.quantile(0.99),
            "runs": self.ours.runs,
            "beside": {beside.name: beside.value for beside in self.beside},
            "goal": self.goal_shown or None,
            "reached": self.reached,
            "note": self.note or None,
        }


def join(sections: Sequence[Section], peer: Section, name: str) -> None:
    """Puts the figures of a peer beside ours."""
    theirs = {figure.key: figure.ours.median for figure in peer.figures if figure.key}
    for section in sections:
        if section is not peer:
            section.figures = [
                replace(figure, beside=[*figure.beside, Beside(name, theirs[figure.key])])
                if figure.key in theirs
                else figure
                for figure in section.figures
            ]


@dataclass
class Section:
    """The figures of a subject, or why it has none."""

    subject: str
    figures: list[Figure] = field(default_factory=list)
    # Why it was left out; that is no failure.
    skipped: str | None = None
    # What went wrong.
    failure: str | None = None
    seconds: float = 0.0


def rows(section: Section) -> list[list[str]]:
    found = []
    for figure in section.figures:
        ours = figure.shown(figure.ours.median)
        factor, digits = UNITS[figure.unit]
        low, high = (
            f"{value * factor:.{digits}f}" for value in (figure.ours.low, figure.ours.high)
        )
        spread = f"{low} – {high} ({figure.ours.runs})" if figure.ours.runs > 1 else ""
        reached = {True: "reached", False: "MISSED", None: ""}[figure.reached]
        besides = list(figure.beside) or [None]
        for number, beside in enumerate(besides):
            first = number == 0
            found.append(
                [
                    figure.name if first else "",
                    ours if first else "",
                    spread if first else "",
                    f"{beside.name}: {figure.shown(beside.value)}" if beside else "",
                    figure.ratio(beside) if beside else "",
                    figure.goal_shown if first else "",
                    reached if first else "",
                ]
            )
        if figure.note:
            found.append([f"    {figure.note}"])
    return found


HEAD = ["figure", "ours", "min – max (runs)", "beside it", "ratio", "goal", ""]


def table(sections: Sequence[Section]) -> str:
    """All figures for people, one table."""
    body = [(section, rows(section)) for section in sections]
    full = [HEAD, *(row for _, found in body for row in found if len(row) == len(HEAD))]
    widths = [max(len(row[column]) for row in full) for column in range(len(HEAD))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()

    lines = [line(HEAD), line(["─" * width for width in widths])]
    for section, found in body:
        lines.append(f"{section.subject}  ({section.seconds:.0f} s)")
        lines += ["  " + (line(row) if len(row) == len(HEAD) else row[0]) for row in found]
        if section.skipped:
            lines.append(f"  left out: {section.skipped}")
        if section.failure:
            lines.append(f"  NOT MEASURED: {section.failure}")
    return "\n".join(lines)

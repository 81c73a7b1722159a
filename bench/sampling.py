"""Numbers out of repeated runs, and runs that take turns.

What is compared is measured in turns, in an order that changes with each round, so that a machine
that gets slower or busier in the middle does so for both.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Unmeasurable(Exception):
    """A figure could not be measured, or what was measured did not do what it should."""


@dataclass(frozen=True)
class Sample:
    """What repeated runs gave."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Sample:
        if not values:
            raise Unmeasurable("nothing was measured")
        return cls(tuple(sorted(values)))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return self.values[0]

    @property
    def high(self) -> float:
        return self.values[-1]

    @property
    def runs(self) -> int:
        return len(self.values)

    def quantile(self, part: float) -> float:
        """The value that this part of all values does not exceed."""
        return self.values[min(self.runs - 1, int(part * self.runs))]

    def __sub__(self, other: float) -> Sample:
        return Sample(tuple(value - other for value in self.values))


def in_turns(rounds: int, works: Mapping[str, Callable[[int], Any]]) -> dict[str, list[Any]]:
    """What each of `works` returned in each round; they are called with the round's number."""
    names = list(works)
    results: dict[str, list[Any]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            results[name].append(works[name](number))
    return results


def differences(some: Sequence[float], base: Sequence[float]) -> Sample:
    """Of runs of the same rounds: how much more each took."""
    return Sample.of([one - other for one, other in zip(some, base)])


@dataclass(frozen=True)
class Ran:
    """A command that was run."""

    seconds: float
    # When it had ended, by the clock that all processes of a machine share.
    ended: float
    said: str


def run(
    command: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    status: int | None = 0,
) -> Ran:
    """Runs and times a command; `status` is how it must end."""
    started = time.monotonic()
    done = subprocess.run(
        [str(word) for word in command],
        env=None if env is None else dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )
    ended = time.monotonic()
    if status is not None and done.returncode != status:
        words = " ".join(str(word) for word in command[:6])
        raise Unmeasurable(f"{words} … ended with {done.returncode}: {done.stdout[-4000:]}")
    return Ran(ended - started, ended, done.stdout)


def expect(what: bool, otherwise: str) -> None:
    """A check of what was measured: what is not right has no figure."""
    if not what:
        raise Unmeasurable(otherwise)

"""What differs between two outputs of a test, and which of it must be.

Pure: the texts come in, and what nobody listed goes out.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher, unified_diff
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# At the end of a line of a `.t` file: under which condition it is expected.
CONDITION = re.compile(r" \([\w.-]+ !\)\n\Z")


@dataclass(frozen=True)
class Rule:
    """A difference that must be: `pattern` is what the output has with the extension, `without`
    what it has in its place without. A group `n` in the pattern is a number, which is smaller by
    `less` without."""

    name: str
    why: str
    tests: frozenset[str]
    pattern: re.Pattern[str]
    without: str = ""
    less: int = 0

    def undo(self, text: str) -> str:
        """The text as it would be without the extension, as far as this rule knows."""

        def replace(match: re.Match[str]) -> str:
            if "n" not in self.pattern.groupindex:
                return match.expand(self.without)
            at, whole = match.start(), match.group()
            start, end = (place - at for place in match.span("n"))
            return whole[:start] + str(int(match["n"]) - self.less) + whole[end:]

        return self.pattern.sub(replace, text)


@dataclass
class Difference:
    """What is left between two outputs of one test when the rules have had their say."""

    # Lines of a unified diff from the output without the extension to that with it.
    left: list[str] = field(default_factory=list)
    # Names of the rules that explained something.
    used: set[str] = field(default_factory=set)


def read_rules(path: Path) -> list[Rule]:
    """The rules of a list; ValueError where it is malformed, or names one of them twice."""
    rules = []
    for entry in tomllib.loads(path.read_text())["rule"]:
        pattern = re.compile(entry.pop("pattern"), re.MULTILINE)
        rule = Rule(pattern=pattern, tests=frozenset(entry.pop("tests")), **entry)
        if ("n" in pattern.groupindex) != bool(rule.less) or (rule.less and rule.without):
            raise ValueError(f"{rule.name}: a group n and `less` belong together")
        rules.append(rule)
    names = [rule.name for rule in rules]
    if len(set(names)) != len(names):
        raise ValueError(f"twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    return rules


def lines_of(text: str) -> list[str]:
    """The lines of a text with their ends, which are line feeds alone."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def as_is(text: str) -> str:
    return text


def compare(
    without: Sequence[str],
    with_it: Sequence[str],
    rules: Iterable[Rule],
    shorten: Callable[[str], str] = as_is,
) -> Difference:
    """What differs between the lines of two outputs but for what these rules explain.

    Rules see only what differs: a line that is the same in both is left alone. `shorten` puts names
    of run-tests.py in the place of what it names, which it may not have known with the extension.
    """
    rules = list(rules)
    without, with_it = sure(without, with_it), sure(with_it, without)
    found = Difference()
    rest: list[str] = []
    for same, before, after in hunks(without, with_it):
        if same:
            rest += after
            continue
        text = "".join(after)
        for rule in rules:
            undone = rule.undo(text)
            if undone != text:
                found.used.add(rule.name)
                text = undone
        undone_lines = lines_of(shorten(text))
        if len(undone_lines) == len(before):
            pairs = zip(undone_lines, before)
            undone_lines = [was if matches(line, was) else line for line, was in pairs]
        rest += undone_lines
    found.left = list(unified_diff(without, rest, "without", "with", n=3))
    return found


def sure(lines: Sequence[str], others: Sequence[str]) -> list[str]:
    """The lines but for those of which run-tests.py does not say where they were, or whether:
    optional ones, and those with a condition that are in both outputs."""
    mine, theirs = (Counter(filter(CONDITION.search, some)) for some in (lines, others))
    return [
        line for line in lines if not line.endswith(" (?)\n") and not 0 < mine[line] == theirs[line]
    ]


def hunks(one: Sequence[str], other: Sequence[str]) -> Iterator[tuple[bool, list[str], list[str]]]:
    """Both texts in pieces: whether they are the same there, and the lines of each."""
    # Most of a long output is the same, and the matcher is slow with what comes often.
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    end = 0
    while end < min(len(one), len(other)) - start and one[-1 - end] == other[-1 - end]:
        end += 1
    yield True, list(one[:start]), list(other[:start])
    middle = one[start : len(one) - end], other[start : len(other) - end]
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, *middle, autojunk=False).get_opcodes():
        yield tag == "equal", list(middle[0][i1:i2]), list(middle[1][j1:j2])
    yield True, list(one[len(one) - end :]), list(other[len(other) - end :])


def matches(line: str, expected: str) -> bool:
    """Whether a line of output is what a line of a `.t` file says, as run-tests.py means it."""
    if line == expected:
        return True
    line = re.sub(r" \(esc\)\n\Z", "\n", line)
    # That the line is there says that the condition holds.
    expected = CONDITION.sub("\n", expected)
    if line == expected:
        return True
    if expected.endswith(" (re)\n"):
        return re.fullmatch(expected[2:-6], line[2:-1]) is not None
    if expected.endswith(" (glob)\n"):
        wanted = ""
        for part in re.findall(r"\\[*?\\]|.", expected[2:-8]):
            wanted += {"*": ".*", "?": "."}.get(part) or re.escape(part[-1])
        return re.fullmatch(wanted, line[2:-1]) is not None
    return False


def no_longer(rules: Iterable[Rule], used: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Pairs of rule and test that are listed, and of which the run saw nothing.

    `used` has the names of the rules that explained something, for each test that ran.
    """
    return [
        (rule.name, test)
        for rule in rules
        for test in sorted(rule.tests)
        if test in used and rule.name not in used[test]
    ]

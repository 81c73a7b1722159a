"""What tests/harm calls a difference, and what not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from compare import Rule, compare, lines_of, matches, no_longer, read_rules

CAPABILITY = Rule("capability", "", frozenset({"test-a.t"}), re.compile("(?<= )hgci "))
LENGTH = Rule("length", "", frozenset({"test-a.t"}), re.compile(r"remote: (?P<n>\d+)\n"), less=5)
COMMAND = Rule("command", "", frozenset({"test-a.t"}), re.compile(r"^  +ci-\w+ .*\n", re.MULTILINE))


def test_a_listed_difference_is_none() -> None:
    found = compare(
        lines_of("  $ hg serve\n  remote: 463\n  a lookup z\n"),
        lines_of("  $ hg serve\n  remote: 468\n  a hgci lookup z\n"),
        [CAPABILITY, LENGTH],
    )
    assert found.left == []
    assert found.used == {"capability", "length"}


def test_what_is_not_listed_is_left_and_shown_without_what_is_listed() -> None:
    found = compare(
        lines_of("  a lookup z\n  abort: no\n"),
        lines_of("  a hgci lookup z\n  abort: yes\n"),
        [CAPABILITY],
    )
    assert found.left[3:] == ["   a lookup z\n", "-  abort: no\n", "+  abort: yes\n"]


def test_a_number_is_smaller_by_what_is_listed_and_by_nothing_else() -> None:
    assert compare(["remote: 463\n"], ["remote: 469\n"], [LENGTH]).left


def test_lines_that_are_only_there_with_the_extension_are_listed_as_a_whole() -> None:
    with_it = lines_of("list of commands:\n   ci-log   show a log\n   commit   commit\n")
    without = [with_it[0], with_it[2]]
    assert compare(without, with_it, [COMMAND]).left == []
    # What vanishes is a difference too.
    assert compare(with_it, without, [COMMAND]).left


def test_rules_do_not_hide_what_is_missing_with_the_extension() -> None:
    assert compare(["a hgci z\n"], ["a z\n"], [CAPABILITY]).left
    assert compare(["a z\n", "b\n"], ["a hgci z\n"], [CAPABILITY]).left


def test_a_line_that_is_the_same_in_both_uses_no_rule() -> None:
    found = compare(["a hgci z\n", "b\n"], ["a hgci z\n", "b\n"], [CAPABILITY])
    assert (found.left, found.used) == ([], set())


def test_what_remains_of_a_line_may_vary_as_the_test_file_says() -> None:
    without = ["  caps: * lookup z (glob)\n"]
    assert compare(without, ["  a b\n"], [CAPABILITY]).left
    assert compare(without, ["  caps: a hgci lookup z\n"], [CAPABILITY]).left == []


def test_only_line_feeds_end_lines_of_output() -> None:
    assert lines_of("a\x0b\x85\r\n\nb") == ["a\x0b\x85\r\n", "\n", "b"]


def test_where_run_tests_puts_lines_that_may_be_missing_is_no_difference() -> None:
    without = lines_of("  a\n  b (?)\n  caps: 16 (zstd !)\n  caps: 9 (no-zstd !)\n  c\n")
    with_it = lines_of("  a\n  caps: 9 (no-zstd !)\n  caps: 16\n  c\n  b (?)\n")
    assert compare(without, with_it, []).left == []
    assert compare(without, [*with_it[:2], "  caps: 17\n", *with_it[3:]], []).left


@pytest.mark.parametrize(
    ("line", "expected", "is_it"),
    [
        ("  a\n", "  a\n", True),
        ("  a7c\n", "  a?c (glob)\n", True),
        ("  a77c\n", "  a?c (glob)\n", False),
        ("  a*c\n", "  a\\*c (glob)\n", True),
        ("  abc\n", "  a\\*c (glob)\n", False),
        ("  a.c\n", "  a.* (glob)\n", True),
        ("  abc\n", "  a.* (glob)\n", False),
        ("  abc\n", "  [a-c]+ (re)\n", True),
        ("  abcd\n", "  [a-c]+ (re)\n", False),
    ],
)
def test_a_line_is_compared_as_run_tests_means_it(line: str, expected: str, is_it: bool) -> None:
    assert matches(line, expected) is is_it


def test_what_is_listed_and_does_not_occur_is_named_if_the_test_ran() -> None:
    rule = Rule("capability", "", frozenset({"test-a.t", "test-b.t", "test-c.t"}), re.compile("x"))
    used = {"test-a.t": {"capability"}, "test-b.t": {"length"}}
    assert no_longer([rule], used) == [("capability", "test-b.t")]


def test_the_manual_tells_of_each_difference_that_is_listed() -> None:
    here = Path(__file__).resolve().parent
    page = (here.parent.parent / "docs" / "differences.md").read_text()
    cells = re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)
    told = {name for cell in cells for name in re.findall(r"`([^`]*)`", cell)}
    rules = read_rules(here / "expected.toml")
    assert told == {rule.name for rule in rules}
    assert all(rule.why and rule.tests for rule in rules)


def test_a_list_with_a_mistake_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "expected.toml"
    entry = "[[rule]]\nname = 'x'\nwhy = 'y'\ntests = []\n"
    path.write_text(f"{entry}pattern = 'a(?P<n>1)'\n")
    with pytest.raises(ValueError, match="belong together"):
        read_rules(path)
    path.write_text(f"{entry}pattern = 'a'\n{entry}pattern = 'b'\n")
    with pytest.raises(ValueError, match="twice: x"):
        read_rules(path)

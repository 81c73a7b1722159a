"""Links of the pages lead somewhere, their examples are right, and what they name is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from pages import Block, Page, page, pages

from harness.programs import HG, HGCI, HGCID, HOOK, PYTHON, ROOT, RUNNER, SEARCH_PATH

PAGES = pages()
names = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

# The first line of what is checked as hgcid.toml: a file with a mistake is not looked at further,
# so what this machine lacks for the example says nothing.
CANARY = "no-such-key = 1\n"

# Looks like a command, and is what a results log begins with.
NO_COMMANDS = {"hgci results log"}


def run(*command: object, text: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": SEARCH_PATH, "HGRCPATH": os.devnull, "HGPLAIN": "1"}
    return subprocess.run(
        [str(word) for word in command],
        env=env,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@names
def test_every_link_leads_somewhere(page: Page) -> None:
    lost = []
    for link in page.links:
        file, _, anchor = link.partition("#")
        name = os.path.relpath(page.path.parent / file if file else page.path, ROOT)
        there = not name.startswith("..") and (ROOT / name).exists()
        if not there or (anchor and anchor not in Page(name).anchors):
            lost.append(link)
    assert not lost, f"{page.name}: {lost}"


def test_the_index_has_every_page_of_the_manual() -> None:
    linked = {link.partition("#")[0] for link in page("docs/README.md").links}
    there = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert there <= linked


def is_pipeline(block: Block) -> bool:
    return re.search(r"^version *=", block.text, re.MULTILINE) is not None


def mistakes(block: Block, folder: Path) -> list[str]:
    if is_pipeline(block):
        done = run(HGCI, "check", "--json", "-", text=block.text)
        assert done.returncode in {0, 2}, done.stderr
        return [error["message"] for error in json.loads(done.stdout)["errors"]]
    config = folder / "hgcid.toml"
    config.write_text(CANARY + block.text)
    done = run(HGCID, "check", "--json", "--config", config)
    assert done.returncode == 2, done.stderr
    found = [error["message"] for error in json.loads(done.stdout)["errors"]]
    assert found.pop(0) == "unknown key `no-such-key`"
    return found


@names
def test_examples_are_read_by_the_program_that_they_are_for(page: Page, tmp_path: Path) -> None:
    for block in page.blocks:
        if block.language in {"toml", "toml,wrong"}:
            found = mistakes(block, tmp_path)
            assert bool(found) == (block.language == "toml,wrong"), (
                f"{page.name}:{block.line}: {found}"
            )


def test_examples_of_both_kinds_are_there() -> None:
    blocks = [block for page in PAGES for block in page.blocks if block.language == "toml"]
    kinds = [is_pipeline(block) for block in blocks]
    assert kinds.count(True) >= 5
    assert kinds.count(False) >= 5


def exists(command: str) -> bool:
    program, word = command.split()
    if program == "make":
        return re.search(rf"^{word}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None
    if program == "hg":
        done = run(HG, "--config=extensions.hgci=", "help", "--command", word)
    else:
        done = run({"hgcid": HGCID, "hgci": HGCI}[program], word, "--help")
    return done.returncode == 0


@names
def test_every_command_that_is_named_exists(page: Page) -> None:
    pattern = r"^(make [a-z]+|hg ci-[a-z]+|hgcid? [a-z-]+)"
    spans = set(page.spans) - NO_COMMANDS
    named = {found[0] for span in spans if (found := re.match(pattern, span))}
    missing = sorted(command for command in named if not exists(command))
    assert not missing, f"{page.name}: {missing}"


def test_the_readme_names_the_commands_and_they_exist() -> None:
    spans = " ".join(page("README.md").spans)
    for program in (HGCID, HGCI, HOOK, RUNNER):
        assert program.name in spans
        assert program.exists()
    for command in ("hg ci-status", "hg ci-log", "hgcid check", "make test"):
        assert command in spans


def plain(text: str) -> list[str]:
    """What `make demo` prints, without what differs each time."""
    for pattern, name in [
        # The socket is elsewhere where this would make its path too long.
        (r"/\S*/demo-[^/\s\"]+|/\S*/hgci-\w+(?=/hgcid\.sock)", "/DEMO"),
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
        (r"\b[0-9a-f]{12}\b", "NODE"),
        (r"\b(\d[\d.]*(ms|[smh]))+\b|\b\d[\d.]* s\b", "TIME"),
        (r"\bby \S+$", "by ACCOUNT"),
    ]:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    # The live state is that of the moment.
    text = re.sub(r"(?<=ci-status --live\n)(NODE .*\n)*", "", text)
    return [line.rstrip() for line in text.strip().splitlines()]


def test_the_readme_shows_what_the_demo_prints() -> None:
    shown = [block for block in page("README.md").blocks if "hgcid serve" in block.text]
    assert len(shown) == 1
    done = run(PYTHON, ROOT / "tests" / "demo.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert plain(shown[0].text) == plain(done.stdout)

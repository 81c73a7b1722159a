"""Reference pages say what the programs know: every key with its default, every call, every line
that a person may look for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import page

from harness import Daemon
from harness.hgcid import ApiError
from harness.programs import HGCID, ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG = ROOT / "daemon" / "src" / "config"
SOURCES = ["crates/*/src", "hooks/src", "daemon/src", "hgext/src", "hgext/hgext3rd"]

# What the system says in the middle of a line of ours.
SYSTEM = {"No such file or directory", "Permission denied"}
# Lines of hgci that its sources put together from parts.
COMPOSED = {
    "the changeset cannot be read: …",
    ".hgci.toml cannot be read: …",
    "ci: .hgci.toml:3:7: …",
    "abort: malformed .hgci.toml in NODE",
    "ci: [hgci] deadline: …",
    "cannot make the socket PATH: another program answers on it",
    "cannot make the socket PATH: …",
    "cannot make the folder of the socket PATH: …",
    "ci: push 17: 2 builds, 8 jobs queued",
    "ci: push recorded, but not an address of hgcid: …",
    "ci: not recorded: …: REPO is not among the repositories of this daemon",
}


def keys_of_the_page() -> dict[tuple[str, str], str]:
    """The keys that docs/configuration.md has, by table, and what it says of their defaults."""
    found = {}
    for heading, head, rows in page("docs/configuration.md").tables():
        if head[0] == "key":
            named = re.match(r"`\[+([a-z]+)", heading)
            default = head.index("default") if "default" in head else None
            for row in rows:
                key = row[0].strip("`")
                found[named[1] if named else "", key] = row[default] if default else ""
    return found


def check(config: Path, text: str) -> list[str]:
    config.write_text(text)
    command = [str(HGCID), "check", "--json", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return [error["message"] for error in json.loads(done.stdout)["errors"]]


def test_every_key_of_the_page_is_known_in_its_table(tmp_path: Path) -> None:
    tables: dict[str, list[str]] = {"": ["no-such-key = {}"]}
    for table, key in keys_of_the_page():
        # What the other keys of a pool are depends on its kind.
        value = '"local"' if key == "kind" else "{}"
        tables.setdefault(table, []).append(f"{key} = {value}")
    head = {"repo": "[[repo]]", "pool": "[[pool]]", "secret": "[secret.NAME]"}
    parts = [
        "\n".join([head.get(table, f"[{table}]") if table else "", *rows])
        for table, rows in tables.items()
    ]
    told = check(tmp_path / "hgcid.toml", "\n".join(parts) + "\n")
    unknown = [message for message in told if message.startswith("unknown key")]
    assert unknown == ["unknown key `no-such-key`"]


def test_every_key_that_hgcid_knows_is_on_the_page() -> None:
    source = "".join((CONFIG / name).read_text() for name in ("read.rs", "mail.rs"))
    # Tests write texts of their own.
    source = re.sub(r"#\[cfg\(test\)\].*?^\}", "", source, flags=re.MULTILINE | re.DOTALL)
    pattern = r"\b(?:take|own|need|role|duration|size|count)\(\s*\"([a-z-]+)\""
    known = set(re.findall(pattern, source))
    assert len(known) > 40
    documented = {key for _, key in keys_of_the_page()}
    # Tables whose keys are the user's.
    assert known - {"secret", "address"} == documented
    text = page("docs/configuration.md").prose
    assert "`[mail.address]`" in text
    assert "`[secret.NAME]`" in text


def defaults() -> dict[tuple[str, str], Any]:
    done = subprocess.run(
        [str(HGCID), "check", "--defaults"], capture_output=True, text=True, timeout=60, check=True
    )
    found: dict[tuple[str, str], Any] = {}
    for name, value in tomllib.loads(done.stdout).items():
        table = value[0] if isinstance(value, list) and isinstance(value[0], dict) else value
        if isinstance(table, dict):
            inner = {key: one for key, one in table.items() if not isinstance(one, dict)}
            found.update({(name, key): one for key, one in inner.items()})
        else:
            found["", name] = value
    return found


def test_the_page_says_the_defaults_that_hgcid_takes() -> None:
    said = keys_of_the_page()
    expected = defaults()
    assert len(expected) > 25
    for key, value in expected.items():
        cell = said[key].strip("`")
        assert tomllib.loads(f"x = {cell}")["x"] == value, f"{key}: {cell}"


def test_limits_that_nothing_obeys_are_said_to_be_such() -> None:
    rooms = [path for path in (ROOT / "daemon/src").rglob("*.rs") if CONFIG not in path.parents]
    source = "".join(path.read_text() for path in rooms)
    tables = page("docs/configuration.md").tables()
    rows = next(rows for heading, _, rows in tables if heading == "`[limits]`")
    obeyed = {row[0]: re.search(rf"limits\s*\.\s*{row[0][1:-1]}\b", source) for row in rows}
    assert len(obeyed) == 9
    for key, *_, says in rows:
        idle = "there are none yet" in says or "not yet obeyed" in says
        assert idle == (obeyed[key] is None), f"{key}: {says}"


def calls_of_the_page() -> set[tuple[str, str]]:
    text = page("docs/api.md").path.read_text()
    return set(re.findall(r"`(GET|POST) (/[A-Za-z0-9/.]+)", text))


def test_every_call_of_the_api_is_on_its_page() -> None:
    # A test of the daemon's holds this document to what is served.
    document = json.loads((ROOT / "daemon/src/web/openapi.json").read_text())
    served = {
        (method.upper(), re.sub(r"{\w+}", "_", path))
        for path, calls in document["paths"].items()
        for method in calls
    }
    assert len(served) >= 20
    # What stands for something on the page: numbers, KEY and NAME.
    said = {
        (method, re.sub(r"/(?:\d+|KEY|NAME)(?=/|$)", "/_", path))
        for method, path in calls_of_the_page()
    }
    assert said == served


def answer(daemon: Daemon, method: str, path: str) -> tuple[int, str]:
    try:
        return 200, daemon.request(method, path).decode(errors="replace")
    except ApiError as error:
        return error.status, error.body


def test_every_call_of_the_page_is_answered(daemon: Daemon) -> None:
    calls = calls_of_the_page()
    assert len(calls) >= 12
    for method, path in sorted(calls):
        status, body = answer(daemon, method, path.replace("KEY", "1.0.1"))
        # What is refused is known all the same: a path that is not has no word in its answer.
        assert body, f"{method} {path}: {status}"
        assert status != 405, f"{method} {path}"


def spoken() -> str:
    """The sources of all programs, with string literals that go over lines in one."""
    text = ""
    for pattern in SOURCES:
        for folder in ROOT.glob(pattern):
            for path in sorted(folder.rglob("*.rs")) + sorted(folder.rglob("*.py")):
                text += path.read_text()
    return re.sub(r"\\\n\s*", "", text).replace('\\"', '"')


def parts(line: str) -> list[str]:
    """What of a line is always the same: capitals and … stand for what varies, and lines are put
    together at punctuation."""
    said = re.sub(r"^(ci: |abort: |hgci: |… alone: )", "", line)
    found = re.split(r"…|[:;,\"'(]|\b[A-Z]+\b|\b\d+\w*\b", said)
    long = [part for part in (part.strip(" /.)") for part in found) if len(part) > 5]
    return [part for part in long if part not in SYSTEM]


@pytest.mark.parametrize("name", ["docs/troubleshooting.md", "docs/hooks.md"])
def test_lines_to_look_for_are_lines_that_are_said(name: str) -> None:
    tables = [
        rows for _, head, rows in page(name).tables() if head[0] in {"line", "words", "reason"}
    ]
    spans = [span for rows in tables for row in rows for span in re.findall(r"`([^`]+)`", row[0])]
    assert len(spans) >= 7
    source = spoken()
    lost = [
        part for span in spans if span not in COMPOSED for part in parts(span) if part not in source
    ]
    assert not lost

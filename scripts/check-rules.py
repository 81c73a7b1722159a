#!/usr/bin/env python3
"""Holds the rules of the house that no compiler and no linter knows.

* who may depend on whom (ARCHITECTURE.md): by `cargo metadata`, for both workspaces;
* licences, bans and yanked releases: deny.toml, as far as that works off line;
* no file longer than 800 lines;
* no test without an assertion.

Prints each mistake as `FILE:LINE: what`, and exits with 1 if there is one.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 800

# Which crates of ours each may name, tests aside. What is not listed names none of them.
MAY_NAME: dict[str, set[str]] = {
    "hgci-core": set(),
    "hgci-results": {"hgci-core"},
    "hgci-repo": {"hgci-core"},
    "hgci-api": {"hgci-core"},
    "hgci-runner": {"hgci-core", "hgci-api", "hgci-results"},
    "hgci": {"hgci-core", "hgci-api", "hgci-results", "hgci-repo", "hgci-runner"},
    "hgci-hooks": {"hgci-core", "hgci-api", "hgci-results"},
    "hgci-hgext": {"hgci-core", "hgci-api", "hgci-results", "hgci-hooks"},
    # "hgci": its man pages and completions are made as those of hgci are.
    "hgcid": {
        "hgci",
        "hgci-api",
        "hgci-core",
        "hgci-hooks",
        "hgci-repo",
        "hgci-results",
        "hgci-runner",
    },
}
# What only one crate may name, and where in it.
ONLY_IN = {
    "sled": ("hgcid", "daemon/src/store"),
    "hg-core": ("hgci-repo", "crates/repo"),
}
# How each of those is spelt in Rust.
SPELLED = {"sled": r"\bsled::", "hg-core": r"\bhg::"}
# What the domain, which is pure, may not reach.
IMPURE = {"tokio", "sled", "hg-core", "rustix", "libc", "ureq", "axum", "tempfile"}


def tracked(*patterns: str) -> list[Path]:
    """Files of the repository, those not yet added among them."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "--", *patterns]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    paths = (ROOT / os.fsdecode(name) for name in output.splitlines())
    return [path for path in paths if path.is_file()]


def metadata(folder: Path) -> dict[str, Any]:
    """`cargo metadata` of a workspace, for this kind of machine."""
    verbose = subprocess.run(["rustc", "-vV"], check=True, stdout=subprocess.PIPE, text=True).stdout
    host = re.search(r"^host: (.*)$", verbose, re.MULTILINE)
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--format-version=1", "--locked"]
    if host:
        command += ["--filter-platform", host[1]]
    output = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def members(graph: dict[str, Any]) -> list[dict[str, Any]]:
    ids = set(graph["workspace_members"])
    return [package for package in graph["packages"] if package["id"] in ids]


def check_dependencies(graph: dict[str, Any]) -> Iterator[str]:
    """Dependencies point down."""
    for package in members(graph):
        name = package["name"]
        manifest = Path(package["manifest_path"]).relative_to(ROOT)
        if name not in MAY_NAME:
            yield f"{manifest}:1: {name} is not in MAY_NAME of scripts/check-rules.py"
            continue
        for dependency in package["dependencies"]:
            other = dependency["name"]
            if other in MAY_NAME and other not in MAY_NAME[name] and dependency["kind"] != "dev":
                yield f"{manifest}:1: {name} may not depend on {other}"
            if other in ONLY_IN and name != ONLY_IN[other][0]:
                yield f"{manifest}:1: only {ONLY_IN[other][0]} may depend on {other}"
            if name == "hgci-core" and other in IMPURE and dependency["kind"] != "dev":
                yield f"{manifest}:1: the domain is pure, and may not depend on {other}"


def check_places() -> Iterator[str]:
    """sled and hg-core are named in one room each."""
    for crate, (_, folder) in ONLY_IN.items():
        for path in tracked("crates/*.rs", "daemon/*.rs", "hooks/*.rs", "hgext/*.rs"):
            relative = path.relative_to(ROOT).as_posix()
            if relative.startswith(folder):
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if re.search(SPELLED[crate], line.split("//")[0]):
                    yield f"{relative}:{number}: {crate} is used outside {folder}"


def licences_allow(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met with the licences that are allowed."""
    text = expression.replace("/", " OR ").replace("(", " ( ").replace(")", " ) ")
    tokens = text.split()
    position = 0

    def peek() -> str:
        return tokens[position] if position < len(tokens) else ""

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1]

    def either() -> bool:
        result = both()
        while peek() == "OR":
            take()
            # Not short-circuited: the tokens must be read.
            result = both() or result
        return result

    def both() -> bool:
        result = one()
        while peek() == "AND":
            take()
            result = one() and result
        return result

    def one() -> bool:
        if peek() == "(":
            take()
            result = either()
            take()
            return result
        name = take()
        if peek() == "WITH":
            take()
            name = f"{name} WITH {take()}"
        # "MPL-2.0+", as older manifests write it, is met by that version.
        return name in allowed or name.rstrip("+") in allowed

    return bool(tokens) and either()


def check_policy(graph: dict[str, Any], policy: dict[str, Any]) -> Iterator[str]:
    """deny.toml: licences, banned crates, sources, yanked releases."""
    allowed = set(policy["licenses"]["allow"])
    clarified = {row["crate"]: row["expression"] for row in policy["licenses"].get("clarify", [])}
    banned = {row["crate"]: row["reason"] for row in policy["bans"]["deny"]}
    versions = defaultdict(list)
    for package in graph["packages"]:
        name, version, source = package["name"], package["version"], package["source"]
        versions[name].append(version)
        licence = clarified.get(name) or package["license"]
        if not licence:
            yield f"deny.toml:1: {name} {version} names no licence"
        elif not licences_allow(licence, allowed):
            yield f"deny.toml:1: the licence of {name} {version} is not allowed: {licence}"
        if name in banned:
            yield f"deny.toml:1: {name} {version} is banned: {banned[name]}"
        if source and not source.startswith(("registry+", "sparse+")):
            yield f"deny.toml:1: {name} {version} comes from {source}"
        elif source and yanked(name, version):
            yield f"deny.toml:1: {name} {version} was yanked"
    doubled = sorted(name for name, found in versions.items() if len(found) > 1)
    if doubled and policy["bans"]["multiple-versions"] == "warn":
        print(f"  in several versions: {', '.join(doubled)}")


def yanked(name: str, version: str) -> bool:
    """Whether cargo's copy of the index, where it has one, calls the release yanked."""
    lower = name.lower()
    folder = {1: "1", 2: "2", 3: f"3/{lower[0]}"}.get(len(lower), f"{lower[:2]}/{lower[2:4]}")
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    for path in home.glob(f"registry/index/*/.cache/{folder}/{lower}"):
        for row in path.read_bytes().split(b"\0"):
            if row.startswith(b"{"):
                release = json.loads(row)
                if release.get("vers") == version and release.get("yanked"):
                    return True
    return False


def check_lengths() -> Iterator[str]:
    for path in tracked("*.rs", "*.py", "*.t", "*.toml", "scripts/*", "Makefile"):
        if path.name == "requirements.txt":
            continue
        length = len(path.read_text(errors="replace").splitlines())
        if length > MAX_LINES:
            yield f"{path.relative_to(ROOT)}:{MAX_LINES}: {length} lines; make it two files"


RUST_TEST = re.compile(
    r"^(?P<indent>[ \t]*)#\[(?:tokio::)?test[^\n]*\]\s*\n"
    r"(?P<attributes>(?:[ \t]*#\[[^\n]*\n|[ \t]*//[^\n]*\n)*)"
    r"[ \t]*(?:async )?fn (?P<name>\w+)[^{]*\{(?P<body>.*?)^(?P=indent)\}",
    re.MULTILINE | re.DOTALL,
)
RUST_FUNCTION = re.compile(
    r"^(?P<indent>[ \t]*)(?:pub(?:\([^)]*\))? )?(?:async )?fn (?P<name>\w+)[^;]*?\{\n"
    r"(?P<body>.*?)^(?P=indent)\}",
    re.MULTILINE | re.DOTALL,
)
RUST_MACRO = re.compile(r"macro_rules! (?P<name>\w+) \{(?P<body>.*?)^\}", re.MULTILINE | re.DOTALL)
RUST_ASSERTS = re.compile(r"assert|panic!|\.(?:unwrap|expect)_err\(|\.fuzz\(")
RUST_CALL = re.compile(r"\b(\w+)!?\s*(?:::<[^>]*>)?[({]")
PYTHON_ASSERTS = re.compile(r"^(?:assert|check|expect|raises|fail)")


def asserting(texts: Iterable[str]) -> set[str]:
    """Names of functions and macros that assert, or call one that does."""
    bodies: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        for found in (*RUST_FUNCTION.finditer(text), *RUST_MACRO.finditer(text)):
            bodies[found["name"]].append(found["body"])
    names = {name for name, found in bodies.items() if any(map(RUST_ASSERTS.search, found))}
    while True:
        more = {
            name
            for name, found in bodies.items()
            if name not in names and any(names & set(RUST_CALL.findall(body)) for body in found)
        }
        if not more:
            return names
        names |= more


def check_rust_tests() -> Iterator[str]:
    rooms = defaultdict(list)
    for path in tracked("*.rs"):
        relative = path.relative_to(ROOT)
        # A crate: its functions may assert for its tests.
        rooms[relative.parts[: 2 if relative.parts[0] == "crates" else 1]].append(path)
    for paths in rooms.values():
        texts = {path: path.read_text() for path in paths}
        names = asserting(texts.values())
        for path, text in texts.items():
            for test in RUST_TEST.finditer(text):
                calls_one = names & set(RUST_CALL.findall(test["body"]))
                asserts = RUST_ASSERTS.search(test["body"]) or calls_one
                if not asserts and "should_panic" not in test["attributes"]:
                    line = text.count("\n", 0, test.start("name")) + 1
                    yield f"{path.relative_to(ROOT)}:{line}: {test['name']} asserts nothing"


def calls(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.Call):
            function = child.func
            if isinstance(function, ast.Attribute):
                yield function.attr
            elif isinstance(function, ast.Name):
                yield function.id


def check_python_tests() -> Iterator[str]:
    for path in tracked("test_*.py", "**/test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            asserts = any(isinstance(child, ast.Assert) for child in ast.walk(node))
            if not asserts and not any(PYTHON_ASSERTS.match(name) for name in calls(node)):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} asserts nothing"


def mistakes() -> Iterable[str]:
    policy = tomllib.loads((ROOT / "deny.toml").read_text())
    workspaces = [ROOT]
    if (ROOT / "hgext" / "Cargo.toml").exists():
        workspaces.append(ROOT / "hgext")
    for folder in workspaces:
        graph = metadata(folder)
        yield from check_dependencies(graph)
        yield from check_policy(graph, policy)
    yield from check_places()
    yield from check_lengths()
    yield from check_rust_tests()
    yield from check_python_tests()


def main() -> int:
    found = list(mistakes())
    for mistake in found:
        print(mistake)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""The checks of `make lint` themselves: what they refuse, and what not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture(scope="module")
def rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_rules", SCRIPTS / "check-rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT/Apache-2.0", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR (MIT AND ISC)", True),
        ("(GPL-3.0-only OR MIT) AND AGPL-3.0", False),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("", False),
    ],
)
def test_a_licence_expression_is_read_as_spdx_means_it(
    rules: ModuleType, expression: str, allowed: bool
) -> None:
    assert rules.licences_allow(expression, {"MIT", "ISC", "Apache-2.0"}) is allowed


def test_a_dependency_that_points_up_is_refused(rules: ModuleType) -> None:
    manifest = str(rules.ROOT / "crates" / "core" / "Cargo.toml")
    dependency = {"name": "hgci-api", "kind": None}
    core = {"name": "hgci-core", "id": "core", "manifest_path": manifest}
    graph = {"workspace_members": ["core"], "packages": [{**core, "dependencies": [dependency]}]}
    assert list(rules.check_dependencies(graph)) == [
        "crates/core/Cargo.toml:1: hgci-core may not depend on hgci-api"
    ]


def test_a_test_that_asserts_nothing_is_found(rules: ModuleType) -> None:
    idle = "    #[test]\n    fn idle() {\n        work();\n    }\n"
    busy = "    #[test]\n    fn busy() {\n        assert!(work());\n    }\n"
    found = {test["name"]: rules.RUST_ASSERTS.search(test["body"]) is not None
             for test in rules.RUST_TEST.finditer(idle + busy)}  # fmt: skip
    assert found == {"idle": False, "busy": True}

"""`[hgci] validate`: what a pusher hears of a malformed pipeline, before it is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest
from pushing import Hg, Server

GOOD = 'version = 1\n[job.a]\nrun = "true"\n'
BAD = 'version = 1\n[job.a]\nruns = "true"\n'
MISTAKE = "ci: .hgci.toml:3:1: "

# In one process: so many heads, each with a version of a file that begins with this text.
HEADS = """
from mercurial.context import memctx, memfilectx
for n in range(%d):
    def file(repo, ctx, path):
        return memfilectx(repo, ctx, path, %r.encode() + b'# %%d' %% n)
    repo.commitctx(memctx(repo, (repo[0].node(), None), b'x', [%r.encode()], file, b'a'))
"""


def pipeline(alice: Hg, clone: Path, text: str) -> str:
    """Commits a pipeline file and returns the node."""
    (clone / ".hgci.toml").write_text(text)
    alice("commit", "-q", "-A", "-m", "pipeline", cwd=clone)
    return alice.node(clone, ".")


def setting(server: Server, level: str) -> None:
    with (server.repo / ".hg" / "hgrc").open("a") as hgrc:
        hgrc.write(f"validate = {level}\n")


def test_a_malformed_pipeline_is_a_warning(extension: Server, alice: Hg, clone: Path) -> None:
    node = pipeline(alice, clone, BAD)
    said = alice("push", *extension.ssh(alice.home), cwd=clone)
    [line] = [line for line in said.splitlines() if MISTAKE in line]
    assert line.startswith(f"remote: {MISTAKE}")
    assert line.endswith(f"(in {node[:12]})")
    assert "run" in line
    assert extension.hg.node(extension.repo, "tip") == node
    assert len(extension.daemon.take()) == 1


def test_a_malformed_pipeline_can_be_refused(extension: Server, alice: Hg, clone: Path) -> None:
    setting(extension, "refuse")
    node = pipeline(alice, clone, BAD)
    said = alice("push", *extension.ssh(alice.home), cwd=clone, status=255)
    assert f"remote: {MISTAKE}" in said
    assert f"malformed .hgci.toml in {node[:12]}" in said
    assert extension.hg("log", "-T", "{node}", cwd=extension.repo) == ""
    assert extension.daemon.take() == []


def test_a_mistake_mended_in_the_same_push_is_none(
    extension: Server, alice: Hg, clone: Path
) -> None:
    setting(extension, "refuse")
    pipeline(alice, clone, BAD)
    pipeline(alice, clone, GOOD)
    assert MISTAKE not in alice("push", extension.path, cwd=clone)
    # And what came before is not looked at again.
    alice.commit(clone, "two")
    assert MISTAKE not in alice("push", extension.path, cwd=clone)


def test_each_head_is_looked_at(extension: Server, alice: Hg, clone: Path) -> None:
    pipeline(alice, clone, GOOD)
    other = pipeline(alice, clone, BAD)
    alice("update", "-q", "1", cwd=clone)
    pipeline(alice, clone, GOOD + "[env]\nA = 'b'\n")
    said = alice("push", "-f", extension.path, cwd=clone)
    assert said.count(MISTAKE) == 1
    assert f"(in {other[:12]})" in said


def test_no_mistake_hides_behind_many_versions(extension: Server, alice: Hg, clone: Path) -> None:
    setting(extension, "refuse")
    bad = pipeline(alice, clone, BAD)
    alice("update", "-q", "0", cwd=clone)
    for n in range(20):
        pipeline(alice, clone, f"{GOOD}# {n}\n")
    said = alice("push", "-f", extension.path, cwd=clone, status=255)
    assert f"malformed .hgci.toml in {bad[:12]}" in said


def test_more_heads_than_are_looked_at_are_not_let_through(
    extension: Server, alice: Hg, clone: Path
) -> None:
    heads = HEADS % (102, GOOD, ".hgci.toml")
    alice("debugshell", "--command", f"exec({heads!r}, globals())", cwd=clone)
    setting(extension, "refuse")
    said = alice("push", "-f", extension.path, cwd=clone, status=255)
    assert "more than 100 versions of .hgci.toml are new" in said
    assert extension.daemon.take() == []
    setting(extension, "warn")
    said = alice("push", "-f", extension.path, cwd=clone)
    assert "more than 100 versions of .hgci.toml are new: not all are looked at" in said


@pytest.mark.parametrize("level", ["no", "warn"])
def test_nothing_is_said_when_told_so_or_of_a_good_one(
    extension: Server, alice: Hg, clone: Path, level: str
) -> None:
    setting(extension, level)
    pipeline(alice, clone, BAD if level == "no" else GOOD)
    said = alice("push", extension.path, cwd=clone)
    assert [line for line in said.splitlines() if "ci:" in line] == ["ci: push 1 recorded"]


def test_a_huge_or_binary_pipeline_is_one_mistake(
    extension: Server, alice: Hg, clone: Path
) -> None:
    pipeline(alice, clone, "#" * 20_000_000)
    said = alice("push", extension.path, cwd=clone)
    assert said.count("ci: .hgci.toml:") == 1
    (clone / ".hgci.toml").write_bytes(b"\x00\x1b]0;x\x07\xff" * 100)
    alice("commit", "-q", "-m", "binary", cwd=clone)
    said = alice("push", extension.path, cwd=clone)
    assert "ci: .hgci.toml:" in said
    assert "\x1b" not in said


def test_private_clones_hear_nothing(admin: Hg, clone: Path) -> None:
    admin.configure("[extensions]\nhgci =\n[hgci]\nsocket = /nowhere\nvalidate = refuse\n")
    private = admin.home / "private"
    admin("clone", "-q", str(clone), str(private))
    (private / ".hgci.toml").write_text(BAD)
    assert "ci:" not in admin("commit", "-A", "-m", "bad", cwd=private)


def test_a_mistake_that_the_daemon_repeats_is_said_once(
    extension: Server, alice: Hg, clone: Path
) -> None:
    pipeline(alice, clone, BAD)
    mistake = ".hgci.toml:3:1: unknown key `runs` in `job.a` (did you mean `run`?)"
    extension.daemon.more = [mistake, "something else"]
    said = alice("push", extension.path, cwd=clone)
    assert said.count(mistake) == 1
    assert "ci: something else" in said


def test_a_wrong_level_is_said(extension: Server, alice: Hg, clone: Path) -> None:
    setting(extension, "maybe")
    said = alice("push", extension.path, cwd=clone)
    assert "ci: [hgci] validate: not no, warn or refuse: maybe" in said


def test_a_symlink_is_one_mistake_whatever_it_leads_to(
    extension: Server, alice: Hg, clone: Path
) -> None:
    (clone / "ci.toml").write_text(GOOD)
    (clone / ".hgci.toml").symlink_to("ci.toml")
    alice("commit", "-q", "-A", "-m", "link", cwd=clone)
    said = alice("push", extension.path, cwd=clone)
    [line] = [line for line in said.splitlines() if "ci: .hgci.toml" in line]
    assert "`.hgci.toml` is a symbolic link; it must be a regular file" in line

"""What happens on the server itself, and in repositories that are nobody's business."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from pushing import HOOK, PATIENT, Daemon, Hg, Server, install

from harness.hgcid import SPOOLED

STRIP = ["--config", "extensions.strip="]


def test_a_commit_on_the_server_is_told(full_server: Server) -> None:
    node = full_server.hg.commit(full_server.repo, "one")
    hints = full_server.daemon.take()
    assert [(hint["txnname"], hint["source"]) for hint in hints] == [("commit", "")]
    if full_server.kind == "extension":
        assert (hints[0]["first"], hints[0]["last"], hints[0]["changesets"]) == (node, node, 1)


def test_a_pull_on_the_server_is_told(server: Server, clone: Path, alice: Hg) -> None:
    said = server.hg("pull", str(clone), cwd=server.repo)
    assert "ci: push 1 recorded" in said
    [hint] = server.daemon.take()
    assert hint["source"] == "pull"
    assert hint["last"] == alice.node(clone, "tip")


def test_an_unbundle_on_the_server_is_told(server: Server, clone: Path, alice: Hg) -> None:
    first = alice.node(clone, "tip")
    last = alice.commit(clone, "two")
    bundle = alice.home / "b.hg"
    alice("bundle", "--all", str(bundle), cwd=clone)
    said = server.hg("unbundle", str(bundle), cwd=server.repo)
    assert said.count("ci: push 1 recorded") == 1
    [hint] = server.daemon.take()
    assert hint["source"] == "unbundle"
    assert (hint["first"], hint["last"]) == (first, last)


def test_bookmarks_phases_and_markers_are_told(full_server: Server, alice: Hg, clone: Path) -> None:
    server = full_server
    evolution = "[experimental]\nevolution = all\n"
    alice.configure(evolution)
    with (server.repo / ".hg" / "hgrc").open("a") as hgrc:
        hgrc.write(f"[phases]\npublish = no\n{evolution}")
    node = alice.commit(clone, "two")
    over_ssh = server.ssh(alice.home)
    alice("push", *over_ssh, cwd=clone)
    server.daemon.take()

    def moved(said: str) -> bool:
        """Whether the daemon heard of it, and of a move if the hook can know that."""
        hints = server.daemon.take()
        known = all(hint["moved"] and hint["first"] is None for hint in hints)
        return len(hints) == 1 and "recorded" in said and (known or server.kind == "txnclose")

    alice("bookmark", "-r", "0", "@", cwd=clone)
    assert moved(alice("push", "-B", "@", *over_ssh, cwd=clone, status=1))
    assert moved(server.hg("bookmark", "here", "-r", "0", cwd=server.repo))
    alice("phase", "--public", "0", cwd=clone)
    assert moved(alice("push", *over_ssh, cwd=clone, status=1))
    alice("update", "-q", "0", cwd=clone)
    # With its parents, since else no changeset of the server concerns it.
    alice("debugobsolete", "--record-parents", node, cwd=clone)
    assert moved(alice("push", *over_ssh, cwd=clone, status=1))


def test_a_strip_tells_what_it_adds_again(full_server: Server, alice: Hg, clone: Path) -> None:
    """Two branches, and the older one goes: hg takes off both and adds one again."""
    server = full_server
    alice.commit(clone, "two")
    alice("update", "-q", "0", cwd=clone)
    kept = alice.commit(clone, "three")
    alice("push", "-f", server.path, cwd=clone)
    server.daemon.take()
    server.hg(*STRIP, "strip", "-r", "1", cwd=server.repo)
    told = [hint["last"] for hint in server.daemon.take() if hint["source"] == "strip"]
    assert told == [kept]


def test_an_amend_tells_the_new_changeset(extension: Server) -> None:
    extension.hg.commit(extension.repo, "one")
    extension.daemon.take()
    extension.hg("commit", "--amend", "-m", "better", cwd=extension.repo)
    node = extension.hg.node(extension.repo, ".")
    hints = extension.daemon.take()
    assert {hint["last"] for hint in hints} == {node}
    assert hints[0]["txnname"] == "amend"


def test_what_changes_nothing_tells_nothing(extension: Server, alice: Hg, clone: Path) -> None:
    alice("push", extension.path, cwd=clone)
    extension.daemon.take()
    for command in (["update"], ["log"], ["debugupdatecaches"], ["verify", "-q"], ["recover"]):
        said = extension.hg(*command, cwd=extension.repo, status=int(command == ["recover"]))
        assert "ci:" not in said
    extension.hg(*STRIP, "strip", "-r", "tip", cwd=extension.repo)
    assert extension.daemon.take() == []


def test_many_changesets_are_one_short_hint(server: Server, alice: Hg) -> None:
    clone = alice.home / "many"
    alice("init", str(clone))
    lines = []
    for number in range(1, 501):
        lines.append(f"# HG changeset patch\n# User t\n# Date {number} 0\nc{number}\n\n")
        lines.append(f"diff --git a/f{number} b/f{number}\nnew file mode 100644\n")
        lines.append(f"--- /dev/null\n+++ b/f{number}\n@@ -0,0 +1,1 @@\n+x\n\n")
    patch = alice.home / "patch"
    patch.write_text("".join(lines))
    alice("import", "-q", "--bypass", str(patch), cwd=clone)
    said = alice("push", server.path, cwd=clone)
    assert said.count("ci:") == 1
    [hint] = server.daemon.take()
    assert hint["first"] == alice.node(clone, "0")
    assert hint["last"] == alice.node(clone, "499")
    assert len(json.dumps(hint)) < 1000


def test_a_hint_without_a_difference_prints_nothing(full_server: Server) -> None:
    full_server.daemon.nothing_new = lambda hint: True
    (full_server.repo / "a").write_text("a")
    said = full_server.hg("commit", "-A", "-m", "a", cwd=full_server.repo)
    assert len(full_server.daemon.take()) == 1
    assert "ci:" not in said


def test_a_share_works_on_its_source(full_server: Server) -> None:
    server = full_server
    server.hg.commit(server.repo, "one")
    server.daemon.take()
    share = server.hg.home / "share"
    server.hg("--config", "extensions.share=", "share", "-q", server.path, str(share))
    shutil.copy(server.repo / ".hg" / "hgrc", share / ".hg" / "hgrc")
    server.hg.commit(share, "two")
    [hint] = server.daemon.take()
    assert hint["repo"] == server.path
    server.daemon.stop()
    server.hg.commit(share, "three")
    assert not (share / ".hg" / "hgci").exists()
    assert len(list((server.repo / ".hg" / "hgci" / "spool").iterdir())) == 1


def machine_wide(hg: Hg, kind: str, daemon: Daemon) -> None:
    """A setting for all repositories of an account, as in /etc/mercurial."""
    if kind == "extension":
        hg.configure("[extensions]\nhgci =\n")
        hg.configure(f"[hgci]\nsocket = {daemon.socket}\ndeadline = {PATIENT}\n")
    else:
        hg.configure(f"[hooks]\ntxnclose.hgci = {HOOK} --deadline {PATIENT}\n")
        hg.environ["HGCI_SOCKET"] = str(daemon.socket)


@pytest.mark.parametrize("kind", ["extension", "txnclose"])
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_private_clones_are_left_alone(
    kind: str, up: bool, admin: Hg, daemon: Daemon, clone: Path
) -> None:
    machine_wide(admin, kind, daemon)
    if not up:
        daemon.stop()
    private = admin.home / "private"
    said = admin("clone", str(clone), str(private))
    (private / "a").write_text("a")
    said += admin("commit", "-A", "-m", "a", cwd=private)
    said += admin("bookmark", "b", cwd=private)
    said += admin("commit", "--amend", "-m", "b", cwd=private)
    said += admin(*STRIP, "strip", ".", cwd=private)
    assert "ci:" not in said
    assert daemon.take() == []
    assert not (private / ".hg" / "hgci").exists()


@pytest.mark.parametrize("kind", ["extension", "txnclose"])
def test_an_adopted_repository_needs_no_setting_of_its_own(
    kind: str, admin: Hg, alice: Hg, daemon: Daemon, clone: Path
) -> None:
    machine_wide(admin, kind, daemon)
    repo = admin.home / "widgets"
    admin("init", str(repo))
    ours = repo / ".hg" / "hgci"
    ours.mkdir()
    mark = ours / "adopted"
    mark.write_text(json.dumps({"socket": str(daemon.socket), "repo": "widgets"}))
    server = Server(admin, repo, daemon, kind)
    said = alice("push", *server.ssh(alice.home), cwd=clone)
    assert "remote: ci: push 1 recorded" in said.splitlines()
    assert len(daemon.take()) == 1
    # Also where nothing names the socket but the mark.
    hgrc = admin.home / "hgrc"
    hgrc.write_text(hgrc.read_text().replace(f"socket = {daemon.socket}", ""))
    admin.environ.pop("HGCI_SOCKET", None)
    admin.commit(repo, "local")
    assert len(daemon.take()) == 1


def test_an_untrusted_hgrc_names_no_socket(extension: Server, alice: Hg, clone: Path) -> None:
    """Whose hgrc hg does not trust, that account cannot make another one's hg load our code."""
    if os.getuid() != 0:
        pytest.skip("giving files away needs root")
    os.chown(extension.repo / ".hg" / "hgrc", 65534, 65534)
    said = alice("push", *extension.ssh(alice.home), cwd=clone)
    assert "ci:" not in said
    assert extension.daemon.take() == []


def test_extension_and_external_hook_together_are_one_push(
    extension: Server, alice: Hg, clone: Path
) -> None:
    """Whatever an administrator sets, one transaction is one push."""
    hgrc = extension.repo / ".hg" / "hgrc"
    text = hgrc.read_text() + f"[hooks]\nchangegroup.hgci = {HOOK} --deadline {PATIENT}\n"
    hgrc.write_text(text + f"txnclose.other = {HOOK} --deadline {PATIENT}\n")
    alice("push", extension.path, cwd=clone)
    hints = extension.daemon.take()
    assert len(hints) == 3
    assert len({hint["txid"] for hint in hints}) == 1


def test_a_mistake_in_the_settings_is_said_and_fails_no_push(
    extension: Server, alice: Hg, clone: Path
) -> None:
    with (extension.repo / ".hg" / "hgrc").open("a") as hgrc:
        hgrc.write("deadline = soon\nwait = 1 week\n")
    said = alice("push", *extension.ssh(alice.home), cwd=clone)
    assert "remote: ci: [hgci] deadline: not a duration" in said
    assert "remote: ci: [hgci] wait: not a duration" in said
    assert len(extension.daemon.take()) + said.count(SPOOLED) >= 1


def test_a_missing_hook_program_fails_no_push(admin: Hg, alice: Hg, clone: Path) -> None:
    """Not ours to prevent, but the manual promises it."""
    repo = admin.home / "widgets"
    admin("init", str(repo))
    install(repo, "txnclose", admin.home / "s")
    hgrc = repo / ".hg" / "hgrc"
    hgrc.write_text(hgrc.read_text().replace(HOOK, "/nowhere/hgci-hook"))
    alice("push", str(repo), cwd=clone)
    assert admin.node(repo, "tip") == alice.node(clone, "tip")


def test_the_hook_waits_for_the_plan_when_told_to(
    extension: Server, alice: Hg, clone: Path
) -> None:
    with (extension.repo / ".hg" / "hgrc").open("a") as hgrc:
        hgrc.write("deadline = 20ms\nwait = 60s\n")
    extension.daemon.delay = 0.5
    said = alice("push", extension.path, cwd=clone)
    assert "ci: push 1 recorded" in said
    [hint] = extension.daemon.take()
    assert hint["wait_ms"] == 60_000


def test_the_hook_stops_waiting_at_its_deadline(
    full_server: Server, alice: Hg, clone: Path
) -> None:
    hgrc = full_server.repo / ".hg" / "hgrc"
    hgrc.write_text(hgrc.read_text().replace(PATIENT, "50ms"))
    full_server.daemon.delay = 3600
    said = alice("push", *full_server.ssh(alice.home), cwd=clone)
    assert f"remote: {SPOOLED}" in said.splitlines()


def test_why_the_daemon_was_not_told_is_in_the_blackbox(
    extension: Server, alice: Hg, clone: Path
) -> None:
    with (extension.repo / ".hg" / "hgrc").open("a") as hgrc:
        hgrc.write("[extensions]\nblackbox =\n[blackbox]\ntrack = hgci\n")
    extension.daemon.stop()
    alice("push", *extension.ssh(alice.home), cwd=clone)
    log = (extension.repo / ".hg" / "blackbox.log").read_text()
    assert f"push not told to the daemon: {extension.daemon.socket}: not reachable" in log

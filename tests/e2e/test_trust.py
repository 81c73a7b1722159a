"""Who pushed: what the system and named front ends say, and nothing that a pusher can forge."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Clone, Daemon, Hg, Pool, Repo, Served, eventually
from harness.fixtures import PASSING, MakeDaemon
from harness.people import account_exists
from harness.programs import HOOK

ME = pwd.getpwuid(os.geteuid()).pw_name
FORGER = "games"
# The job says what hgci told it about its push.
PIPELINE = 'version = 1\n[job.who]\nrun = "env | grep ^HGCI_ | sort"\n'

needs_accounts = pytest.mark.skipif(
    not account_exists(FORGER), reason=f"needs root and the account {FORGER}"
)


MakeGuarded = Callable[..., Daemon]


@pytest.fixture
def make_guarded(make_daemon: MakeDaemon, served: Served) -> MakeGuarded:
    """Starts a daemon that trusts the one who is named, and whose only pool takes trusted work
    alone: so a build passes if its push was that person's, and is skipped if not."""

    def make(trusted: str, frontends: str = ME) -> Daemon:
        repo = Repo(served.path, more={"trusted": [trusted], "frontends": [frontends]})
        return make_daemon([repo], [Pool(more={"lanes": ["trusted"]})]).start()

    return make


@pytest.fixture
def guarded(make_guarded: MakeGuarded) -> Daemon:
    """One that trusts carol, and believes this account's front end."""
    return make_guarded("carol")


def was_trusted(daemon: Daemon, node: str) -> bool:
    """Whether the push of the changeset was by who is trusted."""
    row = daemon.final(node)
    assert row["state"] in {"passed", "skipped"}, row
    return bool(row["state"] == "passed")


def test_a_front_end_is_believed_about_who_logged_in(
    guarded: Daemon, served: Served, clone: Clone, room: Path
) -> None:
    node = clone.commit({".hgci.toml": PASSING})
    with served.wsgi(room, user="carol") as url:
        clone("push", url)
    assert was_trusted(guarded, node)


def test_a_user_name_that_hg_must_encode_arrives_as_it_was_typed(
    make_guarded: MakeGuarded, served: Served, clone: Clone, room: Path
) -> None:
    daemon = make_guarded("carol@example.org")
    node = clone.commit({".hgci.toml": PASSING})
    with served.wsgi(room, user="carol@example.org") as url:
        clone("push", url)
    assert was_trusted(daemon, node)


def test_who_is_no_front_end_is_not_believed(
    make_guarded: MakeGuarded, served: Served, clone: Clone, room: Path
) -> None:
    daemon = make_guarded("carol", frontends="www-data")
    node = clone.commit({".hgci.toml": PASSING})
    with served.wsgi(room, user="carol") as url:
        clone("push", url)
    assert not was_trusted(daemon, node)


@pytest.mark.parametrize("trusted", [ME, "carol"])
def test_a_push_over_ssh_is_the_accounts(
    make_guarded: MakeGuarded, trusted: str, served: Served, clone: Clone, room: Path
) -> None:
    guarded = make_guarded(trusted)
    node = clone.commit({".hgci.toml": PASSING})
    options, url = served.ssh(room)
    clone("push", *options, url, env={"REMOTE_USER": "carol", "HG_URL": "remote:http:h:carol"})
    assert was_trusted(guarded, node) == (trusted == ME)


def test_the_author_of_a_changeset_says_nothing_of_the_pusher(
    guarded: Daemon, clone: Clone
) -> None:
    clone.write({".hgci.toml": PASSING})
    clone("commit", "-q", "-A", "-m", "forged", "-u", "carol")
    clone("push")
    assert not was_trusted(guarded, clone.node())


def test_what_reconciling_finds_has_no_pusher(
    guarded: Daemon, served: Served, clone: Clone
) -> None:
    guarded.stop()
    served.uninstall()
    node = clone.commit({".hgci.toml": PASSING})
    clone.push_unheard()
    guarded.start()
    assert not was_trusted(guarded, node)


def forge(room: Path, served: Served, socket: Path, node: str) -> str:
    """Runs hgci-hook as the forger, with all that a hook of a front end would have."""
    hook = room / "hook"
    if not hook.exists():
        shutil.copy(HOOK, hook)
        hook.chmod(0o755)
    env = {
        "HG_HOOKTYPE": "txnclose",
        "HG_TXNID": "TXN:" + "0" * 39 + "1",
        "HG_TXNNAME": "serve",
        "HG_SOURCE": "serve",
        "HG_URL": "remote:http:127.0.0.1:carol",
        "HG_NODE": node,
        "HG_NODE_LAST": node,
        "REMOTE_USER": "carol",
        "HGCI_SOCKET": str(socket),
    }
    done = subprocess.run(
        [str(hook)],
        cwd=served.path,
        env=env,
        user=FORGER,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout + done.stderr


@needs_accounts
def test_another_account_cannot_pass_itself_off_as_the_front_end_on_the_socket(
    guarded: Daemon, served: Served, clone: Clone, room: Path
) -> None:
    served.uninstall()
    node = clone.commit({".hgci.toml": PASSING})
    clone.push_unheard()
    served.hgrc.write_text(f"[hgci]\nsocket = {guarded.socket}\n")
    # Whether the socket lets it in at all is the socket's permissions' business.
    guarded.socket.chmod(0o777)
    said = forge(room, served, guarded.socket, node)
    assert not was_trusted(guarded, node), said


@needs_accounts
@pytest.mark.parametrize("trusted", [FORGER, "carol"])
def test_a_spool_file_is_its_owners_whatever_it_claims(
    make_guarded: MakeGuarded, trusted: str, served: Served, clone: Clone, room: Path
) -> None:
    guarded = make_guarded(trusted)
    first = clone.commit({".hgci.toml": PASSING})
    clone("push")
    guarded.final(first)
    guarded.stop()
    served.uninstall()
    second = clone.commit({"two": "2"})
    clone.push_unheard()
    spool = served.path / ".hg" / "hgci" / "spool"
    spool.chmod(0o1777)
    (served.path / ".hg" / "hgci").chmod(0o755)
    said = forge(room, served, guarded.socket, second)
    files = list(spool.glob("*.json"))
    assert [pwd.getpwuid(file.stat().st_uid).pw_name for file in files] == [FORGER], said
    guarded.start()
    assert was_trusted(guarded, second) == (trusted == FORGER)
    eventually(lambda: not list(spool.glob("*.json")), "the spool to be read")


def test_a_spool_file_cannot_make_the_daemon_read_or_remove_what_it_links_to(
    guarded: Daemon, served: Served, clone: Clone, room: Path
) -> None:
    node = clone.commit({".hgci.toml": PASSING})
    clone("push")
    guarded.final(node)
    outside = room / "outside"
    outside.write_text(json.dumps({"v": 1, "repo": str(served.path)}))
    spool = served.path / ".hg" / "hgci" / "spool"
    (spool / "1-1-1.json").symlink_to(outside)
    os.mkfifo(spool / "1-1-2.json")
    second = clone.commit({"two": "2"})
    clone("push")
    # Its pool takes nothing of an untrusted pusher: what counts is that it was taken in.
    assert guarded.final(second)["build"] == 2
    assert outside.exists()


def test_a_job_is_told_its_push_and_its_changeset(daemon: Daemon, clone: Clone, alice: Hg) -> None:
    node = clone.commit({".hgci.toml": PIPELINE})
    clone("push")
    assert daemon.final(node)["state"] == "passed"
    log = clone("ci-log", "who").out
    assert f"HGCI_NODE={node}\n" in log
    assert "HGCI_PUSH=1\n" in log
    assert "HGCI_REPO=widgets\n" in log
    assert "HGCI_JOB=who\n" in log
    assert "TOKEN" not in log.upper()

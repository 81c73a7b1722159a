"""Mail: what changed, told to those who did it, once."""

from __future__ import annotations

import json
import re
import subprocess
from email.message import EmailMessage
from pathlib import Path

from harness import Clone, Daemon, Repo, Served, Smtp, eventually
from harness.fixtures import MakeDaemon
from harness.hgcid import Value
from harness.smtp import PASSWORD, USER, held_port

PIPELINE = """\
version = 1

[job.test]
run = ["echo looking", "test ! -e broken"]
"""


# A step that ends when a file of that name is in its tree.
WAITS = "until test -e go; do sleep 0.02; done"


def text_of(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def mail_by(url: str, **more: str) -> dict[str, Value]:
    return {"smtp": url, "from": "CI <ci@example.org>", "digest": "0s", **more}


def waiting(daemon: Daemon) -> int:
    return int(json.loads(daemon.run("status", "--json").stdout)["outbox"])


def test_broken_still_failing_and_fixed_are_told_from_the_nearest_changeset_that_was_built(
    served: Served, clone: Clone, make_daemon: MakeDaemon, smtp: Smtp
) -> None:
    daemon = make_daemon([Repo(served.path)], sections={"mail": mail_by(smtp.url)}).start()
    first = clone.commit({".hgci.toml": PIPELINE})
    clone("push")
    assert daemon.final(first)["state"] == "passed"

    def push(files: dict[str, str | None], *between: dict[str, str]) -> str:
        # Of a push the heads alone are built.
        for files_between in between:
            clone.commit(files_between)
        for name in [name for name, text in files.items() if text is None]:
            clone("rm", name)
        node = clone.commit({name: text for name, text in files.items() if text is not None})
        clone("push")
        daemon.final(node)
        return node

    node = push({"broken": "1"}, {"a": "1"}, {"a": "2"})
    broken = eventually(lambda: smtp.messages[1:], "the second mail")[0]
    assert "broken: test" in broken["Subject"]
    assert "exit 1" in text_of(broken)
    # The command that the mail gives to repeat it is one that does so.
    found = re.search(r"test here: (.*)", text_of(broken))
    assert found is not None
    again = subprocess.run(
        ["sh", "-c", found[1].strip()],
        cwd=clone.path,
        env=clone.hg.env,
        capture_output=True,
        text=True,
    )
    assert (again.returncode, "looking\n" in again.stdout) == (1, True), again
    assert clone("log", "-r", ".", "-T", "{node}").out == node

    push({"b": "2"}, {"b": "1"})
    still = eventually(lambda: smtp.messages[2:], "the third mail")[0]
    assert "still failing: test" in still["Subject"]

    push({"broken": None, "b": "4"}, {"b": "3"})
    fixed = eventually(lambda: smtp.messages[3:], "the fourth mail")[0]
    assert "fixed: test" in fixed["Subject"]
    assert len({message["Message-ID"] for message in smtp.messages}) == 4
    assert len({message["References"] for message in smtp.messages}) == 4


def test_a_malformed_pipeline_is_told_by_status_and_mail(
    served: Served, clone: Clone, make_daemon: MakeDaemon, smtp: Smtp
) -> None:
    daemon = make_daemon([Repo(served.path)], sections={"mail": mail_by(smtp.url)}).start()
    node = clone.commit({".hgci.toml": 'version = 1\n\n[job.test]\nrnu = "true"\n'})
    clone("push")
    assert daemon.final(node)["state"] == "failed"
    done = clone("ci-status", "-r", node, status=1)
    assert ".hgci.toml:4:1: " in done.said
    [message] = eventually(lambda: smtp.messages, "the mail")
    assert "failed" in message["Subject"]
    text = text_of(message)
    assert "the pipeline is malformed" in text
    assert ".hgci.toml:4:1: " in text
    assert node[:12] in text


def test_mail_goes_over_starttls_with_a_login_of_a_file(
    served: Served, clone: Clone, make_daemon: MakeDaemon, room: Path
) -> None:
    server = Smtp(room / "mail", tls=True, auth=True)
    server.start()
    try:
        password = room / "password"
        password.write_text(PASSWORD + "\n")
        password.chmod(0o600)
        url = f"smtp+starttls://{USER}@127.0.0.1:{server.port}"
        mail = mail_by(url, **{"password-file": str(password)})
        # The system's authorities do not know this one.
        daemon = make_daemon(
            [Repo(served.path)], sections={"mail": mail}, env={"SSL_CERT_FILE": str(server.cert)}
        ).start()
        node = clone.commit({".hgci.toml": PIPELINE, "broken": "1"})
        clone("push")
        daemon.final(node)
        assert node[:12] in text_of(eventually(lambda: server.messages, "the mail")[0])
        assert PASSWORD not in daemon.log
    finally:
        server.stop()


def test_what_a_mail_server_that_is_down_should_have_got_arrives_once_when_it_is_back(
    served: Served, clone: Clone, make_daemon: MakeDaemon, room: Path
) -> None:
    held = held_port()
    port = held.getsockname()[1]
    mail = mail_by(f"smtp://127.0.0.1:{port}")
    daemon = make_daemon([Repo(served.path)], sections={"mail": mail}).start()
    nodes = []
    for n in range(3):
        nodes.append(clone.commit({".hgci.toml": PIPELINE, "broken": str(n)}))
        clone("push")
        daemon.final(nodes[-1])
    eventually(lambda: waiting(daemon) == 3, "three messages that wait")
    daemon.kill()
    server = Smtp(room / "mail", port=port)
    server.start()
    try:
        # Started anew, it does not wait for the next turn of the one before.
        daemon.start()
        eventually(lambda: len(server.messages) >= 3, "the mail", seconds=120)
        eventually(lambda: waiting(daemon) == 0, "an empty outbox")
        told = sorted(text_of(message).split("\n")[2][:12] for message in server.messages)
        assert told == sorted(node[:12] for node in nodes)
    finally:
        server.stop()
        held.close()


def test_a_push_is_told_in_one_mail_when_the_last_of_its_builds_has_ended(
    served: Served, clone: Clone, make_daemon: MakeDaemon, smtp: Smtp
) -> None:
    daemon = make_daemon([Repo(served.path)], sections={"mail": mail_by(smtp.url)}).start()
    base = clone.commit({".hgci.toml": PIPELINE})
    quick = clone.commit({"a": "1"})
    clone("update", "-q", base)
    slow = clone.commit({".hgci.toml": PIPELINE.replace("echo looking", WAITS)})
    clone("push")
    assert daemon.final(quick)["state"] == "passed"
    assert (smtp.messages, waiting(daemon)) == ([], 0)

    def let_go() -> bool:
        trees = list(daemon.state.glob("work/*/tree"))
        for tree in trees:
            (tree / "go").touch()
        found = daemon.status(slow)
        return bool(found) and found["state"] == "passed"

    eventually(let_go, "the end of the slow build")
    text = text_of(eventually(lambda: smtp.messages, "the mail")[0])
    assert quick[:12] in text
    assert slow[:12] in text
    eventually(lambda: waiting(daemon) == 0, "an empty outbox")
    assert len(smtp.messages) == 1


def test_a_merge_is_compared_with_what_it_was_merged_into(
    served: Served, clone: Clone, make_daemon: MakeDaemon, smtp: Smtp
) -> None:
    daemon = make_daemon([Repo(served.path)], sections={"mail": mail_by(smtp.url)}).start()

    def told(node: str) -> str:
        clone("push", "-f", "-r", node)
        daemon.final(node)

        def mail() -> EmailMessage | None:
            return next((one for one in smtp.messages if node[:12] in one["Subject"]), None)

        return str(eventually(mail, f"the mail about {node}")["Subject"])

    def merge(one: str, other: str) -> str:
        clone("update", "-q", one)
        clone("merge", "-q", other)
        clone("commit", "-q", "-m", "merge")
        return clone.node(".")

    base = clone.commit({".hgci.toml": PIPELINE})
    assert "passed" in told(base)
    well = clone.commit({"a": "1"})
    assert "passed" in told(well)
    clone("update", "-q", base)
    bad = clone.commit({"broken": "1"})
    assert "broken: test" in told(bad)
    assert "broken: test" in told(merge(well, bad))
    assert "still failing: test" in told(merge(bad, well))


def test_what_happens_within_a_digest_is_one_message(
    served: Served, clone: Clone, make_daemon: MakeDaemon, smtp: Smtp
) -> None:
    daemon = make_daemon([Repo(served.path)], sections={"mail": mail_by(smtp.url, digest="30s")})
    daemon.start()
    nodes = [clone.commit({".hgci.toml": PIPELINE})]
    clone("push")
    nodes.append(clone.commit({"broken": "1"}))
    clone("push")
    for node in nodes:
        daemon.final(node)
    assert smtp.messages == []
    [message] = eventually(lambda: smtp.messages, "the digest")
    text = text_of(message)
    assert all(node[:12] in text for node in nodes), text
    assert re.search(r"^ +broken:? +test", text, re.MULTILINE), text
    eventually(lambda: waiting(daemon) == 0, "the outbox to be empty")
    assert len(smtp.messages) == 1

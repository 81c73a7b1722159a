#!/usr/bin/env python3
"""`make demo`: the main job for real, as a person would type it.

A repository served over http with the extension installed, a daemon with a sandboxed pool, a mail
server; somebody clones, commits, pushes, watches, breaks it, and reads the mail. All of it lies in
a folder of build/, which is removed at the end, and everything that was started is stopped.
"""

from __future__ import annotations

import shlex
import signal
import sys
import time
from email.message import EmailMessage
from pathlib import Path

from harness import Clone, Daemon, Hg, Pool, Repo, Served, Smtp, eventually
from harness.leftovers import processes_of
from harness.places import place, sandbox_works, short_socket

# Ends what hangs.
LIMIT = 300

PIPELINE = """\
version = 1

[job.syntax]
run = "sh -n add.sh"

[job.test]
needs = ["syntax"]
run = ["sh -eu test.sh", "sleep 1"]
"""
SUM = """\
# Adds two numbers.
echo $(($1 + $2))
"""
BROKEN = """\
# Adds two numbers.
echo $(($1 - $2))
"""
TEST = """\
expect() {
    found=$(sh add.sh "$1" "$2")
    echo "$1 + $2 = $found"
    [ "$found" = "$3" ] || { echo "FAILED: it is $3"; exit 1; }
}
expect 0 0 0
expect 2 3 5
"""

BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


def say(text: str) -> None:
    print(f"\n{BOLD}# {text}{PLAIN}", flush=True)


def typed(clone: Clone, command: str, status: int | None = 0) -> int:
    """Shows a command of hg as it is typed, runs it, and shows what it says."""
    print(f"$ hg {command}", flush=True)
    done = clone(*shlex.split(command), status=status)
    print(done.said, end="", flush=True)
    return done.status


def show(path: Path, name: str) -> None:
    print(f"$ cat {name}\n{path.read_text()}", end="", flush=True)


def show_mail(message: EmailMessage) -> None:
    for header in ("From", "To", "Subject"):
        print(f"{header}: {message[header]}")
    body = message.get_body(("plain",))
    print()
    print(body.get_content() if body else "(no text)", end="", flush=True)


def demo(folder: Path, socket: Path) -> None:
    say("A mail server, and a daemon that serves one repository with one sandboxed pool.")
    smtp = Smtp(folder / "mail")
    smtp.start()
    admin = Hg(folder / "srv", user="admin")
    served = Served.create(admin, folder / "srv" / "widgets")
    isolation = "sandbox" if sandbox_works() else "none"
    mail = {"smtp": smtp.url, "from": "CI <ci@example.org>", "digest": "0s", "to": ["author"]}
    daemon = Daemon(
        folder / "hgci",
        [Repo(served.path)],
        [Pool(isolation=isolation)],
        sections={"limits": {"free": "1MiB"}, "mail": mail},
    )
    daemon.socket = socket
    served.install("extension", socket)
    print("$ hgcid serve --config hgcid.toml &", flush=True)
    daemon.start()
    show(daemon.config, "hgcid.toml")
    try:
        with served.http() as url:
            show(served.hgrc, "/srv/hg/widgets/.hg/hgrc")
            print("$ hg serve &", flush=True)
            visit(folder, url, daemon, smtp)
    finally:
        daemon.stop()
        smtp.stop()


def visit(folder: Path, url: str, daemon: Daemon, smtp: Smtp) -> None:
    """What Alice does, on a machine that has nothing of the server but its URL."""
    alice = Hg(folder / "alice", user="Alice <alice@example.org>", plain=False)
    alice.configure("[extensions]\nhgci =\n[ui]\npaginate = no\n")
    say("Somebody else clones it, and adds a pipeline.")
    print(f"$ hg clone {url} widgets", flush=True)
    print(alice.run("clone", url, str(folder / "alice" / "widgets")).said, end="")
    clone = Clone(alice, folder / "alice" / "widgets")
    clone.write({".hgci.toml": PIPELINE, "add.sh": SUM, "test.sh": TEST})
    show(clone.path / ".hgci.toml", ".hgci.toml")
    typed(clone, "commit --addremove -m 'addition, and its test'")
    typed(clone, "push")

    say("What runs now is seen live.")
    node = clone.node()
    eventually(lambda: daemon.status(node), "the build")
    typed(clone, "ci-status --live", status=None)
    daemon.final(node)
    typed(clone, "ci-status")
    typed(clone, "ci-log test")

    say("Now it breaks.")
    clone.write({"add.sh": BROKEN})
    typed(clone, "commit -m 'add faster'")
    typed(clone, "push")
    daemon.final(clone.node())
    status = typed(clone, "ci-status", status=1)
    print(f"$ echo $?\n{status}", flush=True)
    typed(clone, "ci-log test")

    say("And the mail about it, as the mail server received it.")
    eventually(lambda: len(smtp.messages) == 2, "the mail")
    show_mail(smtp.messages[-1])


def main() -> int:
    signal.alarm(LIMIT)
    started = time.monotonic()
    with place("demo") as folder, short_socket(folder) as socket:
        demo(folder, socket)
        try:
            # What was just asked to end gets a moment.
            eventually(lambda: not dict(processes_of(folder)), seconds=20)
        except AssertionError:
            print(f"demo: left behind: {dict(processes_of(folder))}", file=sys.stderr)
            return 1
    say(f"All of it took {time.monotonic() - started:.1f} s. Nothing was left running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

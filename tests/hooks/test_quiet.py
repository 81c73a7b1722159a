"""Where nothing is configured, the extension has no hook and opens nothing but its modules."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pushing import HG, Hg

LOADED = "--config=extensions.hgci="

# What Python itself opens, lists, starts and connects to; the native part is not seen.
AUDIT = """\
import atexit, os, sys
seen = set()
def audit(event, args):
    if event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove",
                 "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect"):
        what = args[0] if args and isinstance(args[0], (str, bytes)) else ""
        seen.add(event + " " + os.fsdecode(what))
def write():
    with open(os.environ["AUDIT"], "w") as file:
        file.write("".join(line + "\\n" for line in sorted(seen)))
atexit.register(write)
sys.addaudithook(audit)
"""

# Modules, and what Python looks at to find them.
MODULES = re.compile(
    r"/site-packages|/lib/python|__pycache__|\.pyc?\b|\.so\b|/pyvenv\.cfg|/dist-info"
)
# Names of temporary files, numbers of processes and of connections.
RANDOM = re.compile(r"(?<=-)[a-z0-9_]{8}(?=\d*~|$)|(?<=/tmp)[a-z0-9_]{8}$|\d{3,}")
# Calls that open nothing.
LOOKS = re.compile(r"(new)?f?l?stat|statx|readlink|f?access")

Did = Callable[..., set[str]]
Both = Callable[..., tuple[set[str], set[str]]]


@pytest.fixture
def audited(alice: Hg, tmp_path: Path) -> Did:
    """What the Python of an hg command did."""
    extension = tmp_path / "audit.py"
    extension.write_text(AUDIT)
    written = tmp_path / "audited"

    def did(*words: str, cwd: Path) -> set[str]:
        account = Hg(alice.home, {"AUDIT": str(written)})
        account(f"--config=extensions.audit={extension}", *words, cwd=cwd)
        return known(written.read_text().splitlines())

    return did


@pytest.fixture
def traced(alice: Hg, tmp_path: Path) -> Did:
    """Every path that the system was asked for, by whatever part of an hg command."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    written = tmp_path / "traced"

    def did(*words: str, cwd: Path) -> set[str]:
        command = [
            "strace",
            "-f",
            "-qq",
            "-e",
            "trace=file,network,process",
            "-o",
            written,
            HG,
            *words,
        ]
        done = subprocess.run(
            command, cwd=cwd, env=alice.env, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode and not written.exists():
            pytest.skip("strace may not trace here")
        assert done.returncode == 0
        calls = re.findall(
            r"^\d+ +(\w+)\((?:[^\"]*?)\"([^\"]*)\"", written.read_text(), re.MULTILINE
        )
        # Where a path is looked at outside of a repository, that is how Python finds modules, and
        # how links in paths are followed.
        return known([path for call, path in calls if "/.hg/" in path or not LOOKS.match(call)])

    return did


def known(lines: list[str]) -> set[str]:
    return {RANDOM.sub("*", line) for line in lines if not MODULES.search(line)}


COMMANDS = {
    "id": ["id"],
    "log": ["log", "-G", "-r", "all()"],
    "commit": ["commit", "-q", "-m", "more"],
    "pull": ["pull", "-q", "-f", "../plain"],
    "push": ["push", "-q", "-f", "../plain"],
    "clone": ["clone", "-q", ".", "../clone"],
}


# What is looked for and not there: in a transaction, the mark that a daemon leaves in a repository
# that it serves; where hg gets changesets from another repository, results at both ends.
MARKS = {
    "commit": {"widgets/.hg/hgci/adopted"},
    "push": {"widgets/.hg/hgci/adopted", "plain/.hg/hgci/adopted"},
    "pull": {
        "widgets/.hg/hgci",
        "widgets/.hg/hgci/adopted",
        "widgets/.hg/sharedpath",
        "plain/.hg/hgci",
    },
    "clone": {"widgets/.hg/hgci"},
}


@pytest.fixture
def both(alice: Hg, tmp_path: Path) -> Both:
    """What a command does without the extension, and with it, in the same repository."""
    kept = tmp_path / "kept"
    for name in ("widgets", "plain"):
        alice("init", str(kept / name))
        alice.commit(kept / name, f"one in {name}")
    (kept / "widgets" / "one in widgets").write_text("changed")

    def both(did: Did, *words: str) -> tuple[set[str], set[str]]:
        found = []
        for options in ([], [LOADED]):
            room = alice.home / "room"
            shutil.rmtree(room, ignore_errors=True)
            shutil.copytree(kept, room)
            found.append(did(*options, *words, cwd=room / "widgets"))
        return found[0], found[1]

    return both


@pytest.mark.parametrize("name", COMMANDS)
def test_python_opens_nothing_but_modules(name: str, both: Both, audited: Did) -> None:
    plain, loaded = both(audited, *COMMANDS[name])
    assert plain
    assert loaded - plain == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_system_is_asked_for_nothing_more(name: str, both: Both, traced: Did) -> None:
    plain, loaded = both(traced, *COMMANDS[name])
    assert plain
    more = {path.partition("/room/")[2] or path for path in loaded - plain}
    assert more == MARKS.get(name, set())


def test_no_hook_is_there(alice: Hg) -> None:
    repo = alice.home / "widgets"
    alice("init", str(repo))
    (repo / "file").write_text("text")
    said = alice(LOADED, "commit", "-A", "-m", "one", "--debug", cwd=repo)
    assert "committed changeset" in said
    assert "hook" not in said
    assert not (repo / ".hg" / "hgci").exists()


# Imported is what has been used: modules that nobody used yet are of another type. A library is
# opened when it is named.
MODULES_USED = """\
import atexit, os, sys, types
def is_used(module):
    origin = getattr(object.__getattribute__(module, "__dict__").get("__spec__"), "origin", None)
    return type(module) is types.ModuleType or str(origin).endswith(".so")
def write():
    used = [name for name, module in list(sys.modules.items()) if is_used(module)]
    with open(os.environ["USED"], "w") as file:
        file.write("".join(name + "\\n" for name in used))
atexit.register(write)
"""


def test_hg_loads_nothing_of_its_own_for_the_extension(alice: Hg, tmp_path: Path) -> None:
    extension = tmp_path / "used.py"
    extension.write_text(MODULES_USED)
    repo = alice.home / "widgets"
    alice("init", str(repo))
    account = Hg(alice.home, {"USED": str(tmp_path / "used")})

    def used(*options: str) -> set[str]:
        account(f"--config=extensions.used={extension}", *options, "id", cwd=repo)
        names = (tmp_path / "used").read_text().splitlines()
        looked_for = ("mercurial", "hgext", "hgext3rd", "uuid")
        return {name for name in names if name.split(".")[0] in looked_for}

    more = used(LOADED) - used()
    ours = {name for name in more if name.startswith("hgext3rd")}
    assert "hgext3rd.hgci" in ours
    assert not ours & {f"hgext3rd.hgci.{name}" for name in ("exchange", "wire", "_native")}
    # What any extension of more than one file takes, and a version that hg compares.
    assert more - ours <= {"hgext", "mercurial.exthelper", "mercurial.__version__"}

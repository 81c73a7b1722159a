"""The daemon with an account of its own, set up as docs/server.md says."""

from __future__ import annotations

import stat
from pathlib import Path

from harness import Clone, Repo, Served
from harness.account import PUSHERS, give_account, needs_root
from harness.fixtures import MakeDaemon

PIPELINE = """\
version = 1

[job.look]
run = '''
echo "uid $(id -u)"
for file in {secrets}; do
    if cat "$file" >/dev/null 2>&1 || ls "$file" >/dev/null 2>&1; then echo "seen $file"; fi
done
for file in /dev/evil /evil /usr/evil /proc/evil; do
    if ( echo x > "$file" ) 2>/dev/null; then echo "wrote $file"; fi
done
echo kept > /tmp/kept && echo done
'''
"""


@needs_root
def test_a_daemon_with_an_account_of_its_own_does_the_main_job(
    make_daemon: MakeDaemon, served: Served, clone: Clone, room: Path
) -> None:
    daemon = make_daemon([Repo(served.path)])
    give_account(daemon, [served], room)
    daemon.write_config()
    checked = daemon.run("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    daemon.start()
    secrets = f"{daemon.state} {daemon.socket} {served.path} /root /home"
    node = clone.commit({".hgci.toml": PIPELINE.replace("{secrets}", secrets)})
    assert "ci: push 1 recorded" in clone("push").said
    build = daemon.final(node)
    log = daemon.request("GET", "/api/v1/builds/1/jobs/look/log").decode()
    assert build["state"] == "passed", (build, log)
    said = [line for line in log.splitlines() if line[:2] not in ("$ ", "> ")]
    assert said == ["uid 1", "done"], log
    hgci = (served.path / ".hg" / "hgci").stat()
    assert (hgci.st_uid, hgci.st_gid, stat.S_IMODE(hgci.st_mode)) == (1, PUSHERS, 0o3775)
    state = daemon.state.stat()
    assert (state.st_uid, stat.S_IMODE(state.st_mode)) == (1, 0o700)
    # Runners outlive it also without rights.
    clone.write({"two": "2", ".hgci.toml": 'version = 1\n[job.slow]\nrun = "sleep 3"\n'})
    clone("commit", "-q", "-A", "-m", "two")
    clone("push")
    daemon.kill()
    daemon.start()
    slow = daemon.final(clone.node())
    assert [(job["state"], job["attempt"]) for job in slow["jobs"]] == [("passed", 1)], slow
    assert clone("ci-status", "-r", node, "-T", "{state}\n").said.endswith("passed\n")

"""`hgcid check` on repositories as hg makes them."""

from __future__ import annotations

from harness import Clone, Pool, Repo, Served
from harness.fixtures import MakeDaemon

PIPELINE = """\
version = 1
[job.here]
run = "true"
[job.elsewhere]
run = "true"
labels = ["sparc"]
"""


def test_a_job_that_no_pool_can_take_is_told_by_check_and_skipped_with_the_same_reason(
    served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path)], [Pool(more={"labels": ["linux"]})]).start()
    served.install("extension", daemon.socket, more="[hgci]\nwait = 60s\n")
    node = clone.commit({".hgci.toml": PIPELINE})
    line = "ci: push 1: 1 build, 1 job queued, 1 skipped: no pool has the label sparc"
    assert line in clone("push").said
    build = daemon.final(node)
    skipped = {job["name"]: job["why"] for job in build["jobs"] if job["state"] == "skipped"}
    assert skipped == {"elsewhere": "no pool has the label sparc"}
    said = clone("ci-log", "elsewhere", status=255).said
    assert "it never ran: skipped: no pool has the label sparc" in said
    said = daemon.run("check")
    expected = f"job elsewhere of changeset {node[:12]} would be skipped: {skipped['elsewhere']}"
    assert expected in said.stdout
    assert "job here" not in said.stdout
    assert said.returncode == 0


def test_a_malformed_pipeline_at_the_tip_is_told_by_check(
    served: Served, clone: Clone, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path)])
    daemon.write_config()
    node = clone.commit({".hgci.toml": "version = 1\n[job.a]\nrnu = 'true'\n"})
    clone("push")
    said = daemon.run("check").stdout
    assert f"the pipeline of changeset {node[:12]} is malformed: .hgci.toml:3:1: " in said


def test_a_reload_that_changes_what_cannot_change_is_refused_and_changes_nothing(
    served: Served, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon([Repo(served.path)]).start()
    text = daemon.config.read_text()
    daemon.config.write_text(f'socket-mode = "0600"\n{text}')
    said = daemon.run("reload")
    assert said.returncode != 0
    assert "socket-mode" in said.stderr
    assert "restart" in said.stderr
    daemon.config.write_text(text)
    assert daemon.run("reload").returncode == 0

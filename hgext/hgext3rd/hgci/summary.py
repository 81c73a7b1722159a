# summary.py - client side: a word of CI in hg summary
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""How the parents of the working directory ended, where the logs on disk know that.

What is queued or running is somebody else's to say, so it is asked with --remote
alone, over the connection that hg has then.
"""

from __future__ import annotations

from mercurial import cmdutil, exthelper
from mercurial.i18n import _
from mercurial.node import short

from . import compat, exchange, native, wire
from .text import local, printable, warn

eh = exthelper.exthelper()

# States of builds and jobs that have not ended.
UNFINISHED = ('running', 'queued', 'waiting')


@eh.extsetup
def extsetup(ui):
    compat.whenloaded(cmdutil, add)


def add():
    cmdutil.summaryhooks.add(b'hgci', summary)
    cmdutil.summaryremotehooks.add(b'hgci', remotely)


def parents(repo):
    return [ctx.node() for ctx in repo[None].parents() if ctx.rev() >= 0]


def ended(repo, nodes):
    """the builds of ``nodes`` that have ended, as far as the logs know"""
    if not nodes:
        return []
    default = exchange.defaultsource(repo.ui)
    known = native.Statuses.read(repo.root, None, nodes, False, default)
    warn(repo, known.notes)
    builds = [known.build(node) for node in nodes]
    return [build for build in builds if build and build['state'] not in UNFINISHED]


def summary(ui, repo):
    nodes = parents(repo)
    for build in ended(repo, nodes):
        show(ui, build, len(nodes) > 1)


def remotely(ui, repo, opts, changes):
    if changes is not None and opts.get(b'remote') and changes[0][2] is not None:
        ask(ui, repo, changes[0][2])
    # Nothing that hg would have to find out for us.
    return False, False


def ask(ui, repo, peer):
    """what ``peer`` knows of parents whose end is not known here"""
    nodes = parents(repo)
    known = {build['node'] for build in ended(repo, nodes)}
    asked = [node for node in nodes if node.hex() not in known]
    if not asked:
        return
    try:
        with wire.Remote(repo, peer=peer) as remote:
            statuses = remote.statuses(asked)
    except wire.Silent as inst:
        ui.debug(b'ci: %s\n' % printable(inst.args[0]))
        return
    for node in asked:
        build = statuses.build(node)
        if build is not None:
            show(ui, build, len(nodes) > 1)


def show(ui, build, named):
    """a line about a build; of what is well, for who wants to hear of everything"""
    state = build['state']
    write = ui.status if state == 'passed' else ui.write
    # i18n: column positioning for "hg summary"
    write(_(b'ci:     '))
    if named:
        write(b'%s ' % short(bytes.fromhex(build['node'])))
    write(local(state), label=b'ci.%s' % local(state))
    jobs = build['jobs']
    if state in UNFINISHED:
        over = [job for job in jobs if job['state'] not in UNFINISHED]
        write(_(b' (%d of %d jobs ended)') % (len(over), len(jobs)))
    elif jobs:
        same = [job for job in jobs if counts(job, state)]
        write(_(b' (%d of %d jobs)') % (len(same), len(jobs)))
    write(b'\n')


def counts(job, state):
    """whether a job is why its build is in ``state``"""
    return job['state'] == state and (state == 'passed' or not job['allow-failure'])

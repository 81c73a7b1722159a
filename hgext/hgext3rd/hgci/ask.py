# ask.py - client side: hg ci-run, ci-retry, ci-cancel
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""What people ask the daemon for: the one that serves this repository, else the
one behind the repository that pushes go to. The server decides who may."""

from __future__ import annotations

import time

from mercurial import cmdutil, encoding, error, exthelper, registrar
from mercurial.i18n import _
from mercurial.node import short

from . import native, revs, wire
from .text import link, local, printable

eh = exthelper.exthelper()

# How long somebody waits whose daemon is busy or was just restarted, in seconds.
PATIENCE = 30

OPTIONS = [
    (b'r', b'rev', b'', _(b'the changeset that the jobs are of'), _(b'REV')),
    *cmdutil.formatteropts,
]
SYNOPSIS = _(b'[-r REV] [JOB]...')
CATEGORY = registrar.command.CATEGORY_REMOTE_REPO_MANAGEMENT


@eh.command(b'ci-run', OPTIONS, SYNOPSIS, helpcategory=CATEGORY)
def cirun(ui, repo, *jobs, **opts):
    """run CI jobs of a changeset, whatever became of them before

    Without --rev, of the parent of the working directory, which must have been
    pushed; without JOB, all of them. What a JOB needs runs too.

    It makes a new build, in which the other jobs keep the results that they have.
    Who may push may ask for it.

    Returns 0 when the server has taken it.
    """
    return ask(ui, repo, b'run', jobs, opts)


@eh.command(b'ci-retry', OPTIONS, SYNOPSIS, helpcategory=CATEGORY)
def ciretry(ui, repo, *jobs, **opts):
    """run CI jobs of a changeset again that did not pass

    Without --rev, of the parent of the working directory; without JOB, all that
    did not pass in the newest build. What a JOB needs and has not passed runs too.

    It makes a new build, in which the other jobs keep the results that they have.
    Who may push may ask for it.

    Returns 0 when the server has taken it.
    """
    return ask(ui, repo, b'retry', jobs, opts)


@eh.command(b'ci-cancel', OPTIONS, SYNOPSIS, helpcategory=CATEGORY)
def cicancel(ui, repo, *jobs, **opts):
    """stop CI jobs of a changeset that are queued or running

    Without --rev, of the parent of the working directory; without JOB, all of
    them. What has ended stays as it is, and nobody gets mail about what was
    cancelled. Who may push may ask for it.

    Returns 0 when the server has taken it.
    """
    return ask(ui, repo, b'cancel', jobs, opts)


def ask(ui, repo, what, jobs, opts):
    # Named above, it would be loaded by each command, for hg names it too.
    import uuid

    ctx = revs.changeset(repo, opts['rev'])
    names = [encoding.unifromlocal(job) for job in jobs]
    # The same request, however often it is sent.
    id = uuid.uuid4().hex
    until = time.monotonic() + PATIENCE
    with wire.Remote(repo, push=True) as remote:
        while True:
            done = send(ui, repo, remote, what, ctx.node(), names, id)
            if done.error is None:
                break
            if not done.later or time.monotonic() >= until:
                raise error.Abort(
                    _(b'cannot %s jobs of %s: %s')
                    % (what, short(ctx.node()), printable(done.error))
                )
            time.sleep(1)
    show(ui, what, ctx, done, opts)
    return 0


def send(ui, repo, remote, what, node, names, id):
    """one try"""
    answer = wire.here(repo, what, node, names, id)
    try:
        if answer is None:
            answer = remote.ask(what, node, names, id)
        return native.Answered.decode(answer)
    except (wire.Silent, ValueError) as exc:
        why = exc.args[0] if isinstance(exc, wire.Silent) else str(exc)
        raise error.Abort(
            _(b'cannot ask for that: %s') % printable(why),
            hint=_(b'the server that pushes go to is asked'),
        ) from exc


def show(ui, what, ctx, done, opts):
    with ui.formatter(b'ci-' + what, {b'template': opts['template']}) as fm:
        fm.startitem()
        fm.context(ctx=ctx)
        fm.data(node=ctx.hex(), kept=done.kept)
        count = len(done.jobs)
        fm.write(b'build', _(b'build %d: '), done.build)
        if what == b'cancel':
            fm.plain(_(b'%d jobs cancelled') % count)
        else:
            fm.plain(_(b'%d jobs to run') % count)
        if done.kept:
            fm.plain(_(b', %d keep their results') % done.kept)
        fm.plain(b'\n')
        jobs = fm.formatlist([local(name) for name in done.jobs], b'job')
        if ui.verbose:
            fm.plain(b''.join(b'  %s\n' % printable(name) for name in done.jobs))
        fm.data(jobs=jobs)
        if done.by:
            fm.data(by=local(done.by))
        if link(done.url):
            fm.write(b'url', b'%s\n', link(done.url))

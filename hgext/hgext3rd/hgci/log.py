# log.py - client side: hg ci-log
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""The log of a job, from the daemon that serves this repository or from the
repository at the default path."""

from __future__ import annotations

import time

from mercurial import cmdutil, encoding, error, exthelper, formatter, registrar
from mercurial.i18n import _
from mercurial.node import hex, short

from . import fields, hook, native, patience, revs, wire
from .text import printable

eh = exthelper.exthelper()

# How long a call waits for more, in milliseconds; servers may cut it short.
WAIT = 10000

# Seconds from one call to the next of who follows a job, while little comes.
PAUSE = 1

# What is little of a log: less than a server gives at once by far.
LITTLE = 64 * 1024

# The most of a log that fits into one JSON string.
MAXITEM = 64 * 1024 * 1024


@eh.command(
    b'ci-log',
    [
        (b'r', b'rev', b'', _(b'the changeset that the job is of'), _(b'REV')),
        (b'f', b'follow', None, _(b'wait for more until the job ends')),
        (b'', b'attempt', b'', _(b'an older attempt of the job'), _(b'N')),
        *cmdutil.formatteropts,
    ],
    _(b'[-f] [-r REV] [--attempt N] JOB'),
    helpcategory=registrar.command.CATEGORY_CHANGE_NAVIGATION,
)
def cilog(ui, repo, job, **opts):
    """show the log of a CI job

    Without --rev, of the parent of the working directory; without --attempt, of
    the newest attempt. The log comes from the daemon, in a clone over the default
    path: it is kept there as long as its administrator says.

    Written into a file or a pipe, the log is byte by byte what the job wrote. In
    a terminal colours pass, and what else would control the terminal is shown.

    Returns 0 on success.
    """
    if opts['follow'] and opts['template']:
        raise error.InputError(_(b'cannot use --follow with --template'))
    ctx = revs.changeset(repo, opts['rev'])
    attempt = None
    if opts['attempt']:
        try:
            attempt = int(opts['attempt'])
            if not 0 < attempt < 1 << 32:
                raise ValueError
        except ValueError:
            raise error.InputError(
                _(b'--attempt is not a number of an attempt: %s') % opts['attempt']
            ) from None
    name = encoding.unifromlocal(job)
    with wire.Remote(repo) as remote:
        source = Source(ui, repo, remote, ctx.node(), name)
        if opts['template']:
            return item(ui, source, ctx, job, attempt, opts['template'])
        if not opts['follow']:
            ui.pager(b'ci-log')
        terminal = native.Terminal() if ui.formatted() else None
        for part in source.parts(attempt, opts['follow']):
            ui.write(terminal.show(part) if terminal else part)
            if opts['follow']:
                ui.flush()
        if terminal:
            ui.write(terminal.end())
    return 0


class Source:
    """where the log of a job is read"""

    def __init__(self, ui, repo, remote, node, job):
        self._ui = ui
        self._repo = repo
        self._remote = remote
        self._node = node
        self._job = job
        # The daemon that serves this repository, until it turns out that none does.
        self._here = True
        self.attempt = None

    def _read(self, attempt, offset, wait, heard):
        if self._here:
            answer = native.read_log(
                self._repo.root,
                hook.socket(self._ui),
                hex(self._node).decode('ascii'),
                self._job,
                attempt,
                offset,
                wait,
            )
            if answer is not None:
                return answer
            self._here = False
        try:
            return self._remote.log(self._node, self._job, attempt, offset, wait)
        except wire.Silent as inst:
            if heard:
                return wire.nolog(inst.args[0], away=True)
            raise error.Abort(
                _(b'cannot read the log: %s') % printable(inst.args[0]),
                hint=_(b'logs are at the server: set a default path to it'),
            ) from inst

    def parts(self, attempt, follow):
        """the log in parts, from the start"""
        offset = 0
        waiting = patience.Waiting(self._ui, follow)
        while True:
            began = time.monotonic()
            # The first answer comes at once: whoever cuts what waits is not there yet.
            wait = WAIT if follow and waiting.heard else 0
            part = self._part(attempt, offset, wait, waiting.heard)
            if part.error is not None:
                # A daemon that never answered is not there; one that did comes back.
                can = part.retry is not None and (waiting.heard or not part.away)
                if can and waiting.wait(part.retry, part.error):
                    continue
                self._fail(part.error, offset)
            waiting.over()
            # The log of one attempt, also if another one starts meanwhile.
            self.attempt = part.attempt
            attempt = self.attempt or attempt
            offset = part.next
            if part.content:
                yield part.content
            if part.done or (not part.content and not follow):
                return
            if follow and len(part.content) < LITTLE:
                # Each line of a job that says much is not worth a call.
                time.sleep(max(0, began + PAUSE - time.monotonic()))

    def _part(self, attempt, offset, wait, heard):
        answer = self._read(attempt, offset, wait, heard)
        try:
            return native.LogPart.decode(answer)
        except ValueError as exc:
            self._fail(str(exc), offset)

    def _fail(self, why, offset):
        what = (printable(self._job), short(self._node), printable(why))
        if offset:
            raise error.Abort(_(b'the log of %s of %s breaks off: %s') % what)
        raise error.Abort(_(b'no log of %s of %s: %s') % what)


def item(ui, source, ctx, job, attempt, template):
    """the log as one item of templated output"""
    parts = []
    size = 0
    for part in source.parts(attempt, False):
        parts.append(part)
        size += len(part)
        if size > MAXITEM:
            hint = _(b'read it without -T')
            raise error.Abort(_(b'the log is too large for a template'), hint=hint)
    with ui.formatter(b'ci-log', {b'template': template}) as fm:
        fm.startitem()
        fm.context(ctx=ctx)
        fm.data(node=ctx.hex(), job=job, attempt=source.attempt)
        fm.data(log=content(fm, b''.join(parts)))
    return 0


def content(fm, log):
    """the bytes of a log, but where they are to be JSON"""
    if isinstance(fm, formatter.jsonformatter):
        return fields.utf8(log)
    if isinstance(fm, formatter.templateformatter):
        return fields.Log(log)
    return log

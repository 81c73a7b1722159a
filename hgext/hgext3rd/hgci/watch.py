# watch.py - client side: hg ci-status --watch
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""Shows states as they change.

Whoever knows them holds each call until something changes, so that watching costs
nobody anything while nothing happens. In a terminal a table is drawn in its own
place; elsewhere each change of a job is a line.
"""

from __future__ import annotations

from mercurial import encoding, error, scmutil
from mercurial.i18n import _
from mercurial.node import short

from . import exchange, hook, native, patience, status, wire
from .text import printable

# How long a call waits for a change, in milliseconds; servers may cut it short. As
# often the durations in a table are brought up to date.
WAIT = 2000


def states(ui, repo, nodes, tells=lambda: None):
    """what is known of ``nodes``: now, and whenever that may have changed, until all
    of it has ended; calls ``tells`` before it warns"""
    if len(nodes) > wire.MAXWATCHED:
        message = _(b'too many changesets to watch: %d')
        hint = _(b'name at most %d') % wire.MAXWATCHED
        raise error.InputError(message % len(nodes), hint=hint)
    waiting = patience.Waiting(ui, True, tells)
    seen = ''
    with wire.Remote(repo) as remote:
        while True:
            known, why = ask(ui, repo, remote, nodes, seen)
            if known is not None:
                waiting.over()
                yield known
                if known.over_for(nodes):
                    return
                seen = known.tag
            # A daemon that never answered is not there; one that did comes back.
            elif not (waiting.heard and waiting.wait(1, why)):
                raise error.Abort(
                    _(b'what is queued and running is not known: %s') % printable(why),
                    hint=_(b'without --watch, what the results log has is shown'),
                )


def ask(ui, repo, remote, nodes, seen):
    """what is known, or None and why what is queued and running is not"""
    default = exchange.defaultsource(ui)
    # The first answer comes at once.
    wait = WAIT if seen else 0
    socket = hook.socket(ui)
    known = native.Statuses.read(repo.root, socket, nodes, True, default, seen, wait)
    if known.live is None:
        try:
            known.merge(remote.statuses(nodes, seen, wait))
        except wire.Silent as inst:
            return None, inst.args[0]
    if known.live:
        return known, None
    return None, known.why or _(b'no daemon serves the repository')


def until_over(ui, repo, nodes):
    """what is known of ``nodes`` when all of it has ended"""
    for known in states(ui, repo, nodes):
        last = known
    return last


def show(ui, repo, nodes, form):
    """shows ``nodes`` until all has ended; returns the exit status"""
    in_place = form is status.table and encoding.environ.get(b'TERM') != b'dumb'
    form = form if in_place else status.lines
    last = None
    with ui.formatter(b'ci-status', {b'template': b''}) as fm:
        view = Table(ui, fm) if in_place else Lines(ui, fm)
        try:
            for last in states(ui, repo, nodes, view.leave):
                view.update([last.build(node) for node in nodes])
        finally:
            # Also where it was interrupted.
            view.end()
        ret = 0
        for node, build, code in status.outcomes(ui, repo, nodes, last):
            ret = max(ret, code)
            if code == status.UNKNOWN:
                ui.warn(_(b'no CI known for %s\n') % short(node))
            # A predecessor's is not watched: its own would come in its place.
            if build is not None and status.origin(build):
                form(ui, fm, build)
    return ret


class Lines:
    """a line for each change of a job, and of a build without jobs"""

    def __init__(self, ui, fm):
        self._ui = ui
        self._fm = fm
        self._said = {}

    def update(self, builds):
        for build in builds:
            # A build without jobs may get them yet.
            jobs = build['jobs'] or [None] if build else []
            for job in jobs:
                name = job['name'] if job else None
                known = job or build
                state = (build['build'], known['state'], known.get('attempt'))
                if self._said.get((build['node'], name)) != state:
                    self._said[(build['node'], name)] = state
                    status.line(self._ui, self._fm, build, job)
        self._ui.flush()

    def leave(self):
        pass

    def end(self):
        pass


class Table:
    """a table that is drawn again where it is

    Of what is higher than the terminal the first rows are drawn, and all of it at the
    end.
    """

    def __init__(self, ui, fm):
        self._ui = ui
        self._fm = fm
        self._drawn = 0
        self._rows = []

    def update(self, builds):
        self._ui.pushbuffer(labeled=True)
        try:
            for build in builds:
                if build is not None:
                    status.table(self._ui, self._fm, build)
        finally:
            self._rows = self._ui.popbuffer().splitlines(True)
        height = scmutil.termsize(self._ui)[1] - 1
        rows = self._rows
        if len(rows) > height:
            more = len(rows) - height + 1
            rows = [*rows[: height - 1], _(b'  (%d more)\n') % more]
        # A row that is too wide is cut off by the terminal, for each must be one line.
        self._draw([b'\x1b[?7l', *rows, b'\x1b[?7h'], len(rows))

    def leave(self):
        """what is drawn stays there: something else comes below it"""
        self._drawn = 0

    def end(self):
        if self._drawn:
            self._draw(self._rows, len(self._rows))

    def _draw(self, parts, rows):
        up = b'\x1b[%dA' % self._drawn if self._drawn else b''
        self._ui.write(up + b'\x1b[J' + b''.join(parts))
        self._ui.flush()
        self._drawn = rows

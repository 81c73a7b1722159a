# hook.py - server side: tell the daemon what came in
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""The hook that runs inside hg.

What came in is looked up when the transaction closes, under the lock: when the
hook runs, the lock is released and a strip may have moved numbers. It costs the
same for one changeset as for ten thousand: first, last and count.
"""

from __future__ import annotations

import itertools

from mercurial import encoding, error, exthelper, util
from mercurial.node import hex
from mercurial.utils import stringutil

from . import native, validate

eh = exthelper.exthelper()

HOOK = b'txnclose.hgci'

# Before hooks of others, which may take their time: until ours has spoken, the
# daemon cannot know who pushed what it sees, and soon takes it for nobody's.
PRIORITY = b'priority.' + HOOK

# Transactions of one lock whose hooks have not run yet; a repository object of a
# web server lives long, so what is never asked for must not pile up.
MAXPENDING = 100


@eh.reposetup
def reposetup(ui, repo):
    if not repo.local():
        return

    class hgcirepo(repo.__class__):
        # Of several repositories in one process, some may have the extension.
        hgci = True

        def transaction(self, desc, report=None):
            outermost = self.currenttransaction() is None
            tr = super().transaction(desc, report)
            if outermost:
                watch(self.unfiltered(), tr)
            return tr

    repo.__class__ = hgcirepo


def watch(repo, tr):
    """see to it that the daemon hears of the transaction ``tr``

    Whether the repository is one that a daemon cares for is decided in the end by
    the native part. This rules out quickly what can never be.
    """
    if socket(repo.ui) is None and not adopted(repo):
        return
    # Only here: a repository without transactions needs no hook.
    repo.ui.setconfig(b'hooks', HOOK, txnclose, b'hgci')
    if repo.ui.config(b'hooks', PRIORITY, None) is None:
        repo.ui.setconfig(b'hooks', PRIORITY, b'1000', b'hgci')

    def postclose(tr):
        try:
            changed = collect(repo, tr)
        except Exception as exc:
            # The transaction is closed: nothing may fail it any more. The daemon
            # finds out by itself what changed.
            repo.ui.debug(b'ci: %s\n' % stringutil.forcebytestr(exc))
            changed = (None, None, 0, True)
        if changed is None:
            return
        pending = repo.__dict__.setdefault('_hgcipending', util.sortdict())
        pending[tr.hookargs[b'txnid']] = changed
        while len(pending) > MAXPENDING:
            pending.popitem(last=False)

    tr.addpostclose(b'hgci', postclose)
    validate.watch(repo, tr)


def socket(ui):
    """the daemon's socket as configured or in the environment, or None"""
    return ui.config(b'hgci', b'socket') or encoding.environ.get(b'HGCI_SOCKET')


def adopted(repo):
    """whether a daemon has left its mark in ``.hg/hgci`` of the share source"""
    return util.statfiles([repo.sharedpath + b'/hgci/adopted'])[0] is not None


def collect(repo, tr):
    """what changed in ``tr``, in bounded time; None if nothing that matters did"""
    first = tr.changes[b'origrepolen']
    cl = repo.changelog
    count = max(0, len(cl) - first)
    moved = bool(tr.changes[b'bookmarks'] or tr.changes[b'obsmarkers'])
    if not moved:
        # New changesets are listed with None as their old phase.
        some = itertools.islice(tr.changes[b'phases'], 1000)
        moved = any(old is not None for revs, (old, new) in some)
    if not count:
        return (None, None, 0, True) if moved else None
    return hex(cl.node(first)), hex(cl.node(first + count - 1)), count, moved


def txnclose(ui, repo, hooktype, **kwargs):
    pending = repo.unfiltered().__dict__.get('_hgcipending', {})
    changed = pending.pop(kwargs['txnid'], None)
    if changed is None:
        return
    variables = [
        (name.upper(), value)
        for name, value in kwargs.items()
        if isinstance(value, bytes)
    ]
    trouble, why, lines = native.deliver(
        repo.root,
        variables,
        changed,
        socket(ui),
        duration(ui, b'deadline', 300),
        duration(ui, b'wait', 0),
    )
    if why:
        # For the administrator: the blackbox has it, where that is on.
        ui.log(b'hgci', b'push not told to the daemon: %s\n', why)
        ui.debug(b'ci: %s\n' % why)
    shown = repo.unfiltered().__dict__.pop('_hgcishown', ())
    write = ui.warn if trouble else ui.status
    for line in lines:
        if line not in shown:
            write(b'ci: %s\n' % line)


def duration(ui, name, default):
    """milliseconds of ``[hgci]`` NAME; a mistake there must not fail a push"""
    try:
        return native.milliseconds(ui.config(b'hgci', name))
    except (ValueError, error.ConfigError) as exc:
        text = stringutil.forcebytestr(exc)
        ui.warn(b'ci: [hgci] %s: %s\n' % (name, text))
        return default

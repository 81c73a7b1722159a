# exchange.py - results come along with a pull
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""The bundle2 part in which a pull brings new results, both ends of it.

The client says in the request for the bundle what it has of the server's logs, so
it costs no round trip, and the server answers with what is new. It is advisory:
whatever is wrong with it is told, and the pull goes on. What came lies in a file
until the transaction of the pull is closed; without new results there is none.
"""

from __future__ import annotations

import itertools
import os
import tempfile

from mercurial import encoding, error, exchange, exthelper, wireprototypes
from mercurial.i18n import _
from mercurial.utils import stringutil, urlutil

from . import compat, native

eh = exthelper.exthelper()

PART = b'hgci-results'

# The most that a server sends with one pull, whatever the client allows.
MAXLIMIT = 1 << 30


def sourceof(url):
    """how what comes from ``url`` is kept apart: without password, links followed"""
    url = urlutil.url(url)
    if url.islocal():
        return os.path.realpath(url.localpath())
    url.user = url.passwd = None
    return bytes(url).rstrip(b'/')


def defaultsource(ui):
    """whose results count before those from elsewhere, or None"""
    path = compat.defaultpath(ui)
    return path and sourceof(path)


def wanted(ui):
    return ui.configbool(b'hgci', b'exchange')


def limit(ui):
    return ui.configbytes(b'hgci', b'exchange-limit')


# The server


def sending(repo, cookie, most):
    """an iterator over what is sent to who had ``cookie``, nothing where it is known"""
    changelog = repo.changelog
    hasnode = changelog.hasnode

    def visible(nodes):
        return [hasnode(node) for node in nodes]

    # Numbers of revisions mean something here as long as nothing else changes.
    view = hash((len(changelog), changelog.filteredrevs)) & 0xFFFFFFFFFFFFFFFF
    pieces = native.Sending(repo.root, cookie, view, most, visible)
    first = next(pieces, None)
    if first is None or pieces.nothing_new:
        return None
    return itertools.chain([first], pieces)


def addpart(bundler, repo, source, bundlecaps=None, b2caps=None, hgci=None, **kwargs):
    if hgci is None or PART not in (b2caps or ()):
        return
    try:
        most, cookie = hgci.split(b' ')
        pieces = sending(repo, cookie, min(int(most), MAXLIMIT))
    except (ValueError, OverflowError, OSError) as exc:
        complain(repo.ui, exc)
        return
    if pieces is not None:
        bundler.newpart(PART, data=unharmed(repo.ui, pieces), mandatory=False)


def unharmed(ui, pieces):
    """``pieces`` up to where something goes wrong: the client sees that it was cut"""
    try:
        yield from pieces
    except (OSError, ValueError) as exc:
        complain(ui, exc)


def complain(ui, exc):
    text = stringutil.forcebytestr(exc)
    ui.log(b'hgci', b'results not sent: %s\n', text)
    ui.debug(b'ci: results not sent: %s\n' % text)


# The client


@eh.wrapfunction(exchange, '_pullbundle2extraprepare')
def prepare(orig, pullop, kwargs):
    orig(pullop, kwargs)
    repo = pullop.repo
    if PART not in pullop.remotebundle2caps or not wanted(repo.ui):
        return
    source = sourceof(pullop.remote.url())
    try:
        cookie = native.cookie_for(repo.root, source)
    except OSError as exc:
        repo.ui.debug(b'ci: %s\n' % stringutil.forcebytestr(exc))
        return
    kwargs[b'hgci'] = b'%d %s' % (limit(repo.ui), cookie or b'-')
    # Nobody but who was asked may bring results.
    repo.unfiltered().__dict__['_hgcisource'] = source


@eh.wrapfunction(exchange, '_pullbundle2')
def pullbundle2(orig, pullop):
    try:
        return orig(pullop)
    finally:
        pullop.repo.unfiltered().__dict__.pop('_hgcisource', None)


def handlepart(op, part):
    source = op.repo.unfiltered().__dict__.pop('_hgcisource', None)
    if source is not None:
        receive(op.repo, source, iter(lambda: part.read(65536), b''), op.gettransaction)


def receive(repo, source, pieces, gettransaction):
    """see to it that what came from ``source`` is taken in

    ``gettransaction`` is called where there is anything to take in, and what came is
    taken in when that transaction is closed.
    """
    ui = repo.ui
    most = limit(ui) + (1 << 20)
    # Closed, and so removed, when nobody needs it any more.
    received = tempfile.NamedTemporaryFile(prefix='hgci-')  # noqa: SIM115
    for piece in pieces:
        most -= len(piece)
        if most < 0:
            ui.warn(_(b'ci: the server sent more results than it may\n'))
            return
        received.write(piece)
    received.flush()
    path = os.fsencode(received.name)
    try:
        records, _cookie, more = native.staged(path)
    except ValueError as exc:
        text = stringutil.forcebytestr(exc)
        ui.warn(_(b'ci: no results were received: %s\n') % text)
        return

    def takein(tr=None):
        with received:
            try:
                new, _known = native.take_in(repo.root, source, path)
            except (OSError, ValueError) as exc:
                text = encoding.strtolocal(str(exc))
                ui.warn(_(b'ci: results were not taken in: %s\n') % text)
                return
        if new:
            ui.note(_(b'ci: %d new results\n') % new)
        if more:
            ui.status(_(b'ci: there are more results, for the next pull\n'))

    if records:
        gettransaction().addpostclose(PART, takein)
    else:
        takein()


def setup(ui):
    """called when hg loads what exchanges changesets"""
    eh.finaluisetup(ui)
    wireprototypes.GETBUNDLE_ARGUMENTS[b'hgci'] = b'plain'
    if PART not in exchange.getbundle2partsmapping:
        exchange.getbundle2partsgenerator(PART)(addpart)
        compat.parthandler(PART)(handlepart)


def clone(orig, ui, *args, **kwargs):
    """a clone that copies files asks for no bundle: results come after it"""
    peers = orig(ui, *args, **kwargs)
    if peers is None:
        return peers
    src, dest = (peer and peer.local() for peer in peers)
    if src and dest and wanted(dest.ui) and dest.sharedpath != src.sharedpath:
        source = sourceof(src.url())
        try:
            if native.cookie_for(dest.root, source) is None:
                served = src.filtered(src.ui.config(b'server', b'view'))
                pieces = sending(served, b'-', limit(dest.ui))
                if pieces is not None:
                    with dest.lock(), dest.transaction(b'ci-results') as tr:
                        receive(dest, source, pieces, lambda: tr)
        except (OSError, error.LockError) as exc:
            dest.ui.debug(b'ci: %s\n' % stringutil.forcebytestr(exc))
    return peers

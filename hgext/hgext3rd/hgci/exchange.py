# exchange.py - results come along with a pull
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""The bundle2 part in which a pull brings new results, both ends of it.

The client says in the request for the bundle what it has of the server's logs, so
it costs no round trip, and the server answers with what is new. It is advisory:
whatever is wrong with it is told, and the pull goes on. What came lies in a file
until the transaction of the pull is closed, where there is one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile

from mercurial import encoding, error, exchange, exthelper, wireprototypes
from mercurial.i18n import _
from mercurial.utils import hashutil, stringutil, urlutil

from . import compat, native

eh = exthelper.exthelper()

PART = b'hgci-results'

# The most that a server sends with one pull, whatever the client allows.
MAXLIMIT = 1 << 30

# As in crates/results/src/exchange/cookie.rs. Over http it is sent as headers.
MAXCOOKIE = 24 * 1024

# Of so many changesets that come with a pull older results are looked for.
MAXCOMING = 100000


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
    return max(0, ui.configbytes(b'hgci', b'exchange-limit'))


# The server


def sending(repo, cookie, most, coming=()):
    """an iterator over what is sent to who had ``cookie`` and gets the changesets
    ``coming``, nothing where it is known"""
    changelog = repo.changelog
    hasnode = changelog.hasnode

    def visible(nodes):
        return [hasnode(node) for node in nodes]

    pieces = native.Sending(
        repo.root,
        cookie,
        viewof(repo),
        b''.join(itertools.islice(coming, MAXCOMING)),
        most,
        defaultsource(repo.ui),
        visible,
    )
    first = next(pieces, None)
    if first is None or pieces.nothing_new:
        return None
    return itertools.chain([first], pieces)


def isplain(repo):
    """whether ``repo`` is what lies at its root, and not a bundle on top of it"""
    return repo.url().startswith(b'file:')


def hasresults(repo):
    """whether there may be anything to send: most of the work is spared without"""
    return isplain(repo) and os.path.isdir(os.path.join(repo.sharedpath, b'hgci'))


def viewof(repo):
    """a number that is another one when other changesets can be seen"""
    node = repo.unfiltered().changelog.node
    seen = hashutil.sha1(repo.changelog.tip())
    for rev in sorted(repo.changelog.filteredrevs):
        seen.update(node(rev))
    return int.from_bytes(seen.digest()[:8], 'big')


def addpart(
    bundler,
    repo,
    source,
    bundlecaps=None,
    b2caps=None,
    hgci=None,
    heads=None,
    common=None,
    **kwargs,
):
    if hgci is None or PART not in (b2caps or ()) or not hasresults(repo):
        return
    try:
        most, cookie = hgci.split(b' ')
        coming = ()
        if cookie != b'-':
            # What is known of them may have been withheld, if they were secret.
            coming = exchange._computeoutgoing(repo, heads, common).missing
        pieces = sending(repo, cookie, max(0, min(int(most), MAXLIMIT)), coming)
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
    other = pullop.remote.local()
    if other and (not isplain(other) or other.sharedpath == repo.sharedpath):
        return
    source = sourceof(pullop.remote.url())
    try:
        cookie = native.cookie_for(repo.root, source)
    except OSError as exc:
        repo.ui.debug(b'ci: %s\n' % stringutil.forcebytestr(exc))
        return
    if cookie is None or len(cookie) > MAXCOOKIE:
        cookie = b'-'
    kwargs[b'hgci'] = b'%d %s' % (limit(repo.ui), cookie)
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
        pieces = iter(lambda: part.read(65536), b'')
        receive(op.repo, source, pieces, op.repo.currenttransaction())


def receive(repo, source, pieces, tr):
    """see to it that what came from ``source`` is taken in: when ``tr`` is closed, or
    at once without one, for results are no reason for the hooks of a transaction

    Nothing that goes wrong here fails a pull.
    """
    ui = repo.ui
    try:
        received = staged(ui, pieces)
    except (OSError, ValueError) as exc:
        text = encoding.strtolocal(str(exc))
        ui.warn(_(b'ci: no results were received: %s\n') % text)
        return
    if received is None:
        return
    file, path, more = received

    def takein(tr=None):
        with file:
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

    if tr is not None:
        tr.addpostclose(PART, takein)
    else:
        takein()


def staged(ui, pieces):
    """a file with what came, its path, and whether there is more; None where it is more
    than it may be"""
    most = limit(ui) + (1 << 20)
    # Closed, and so removed, when nobody needs it any more.
    file = tempfile.NamedTemporaryFile(prefix='hgci-')  # noqa: SIM115
    try:
        for piece in pieces:
            most -= len(piece)
            if most < 0:
                ui.warn(_(b'ci: the server sent more results than it may\n'))
                file.close()
                return None
            file.write(piece)
        file.flush()
        path = os.fsencode(file.name)
        _records, _cookie, more = native.staged(path)
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        raise
    return file, path, more


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
            if hasresults(src) and native.cookie_for(dest.root, source) is None:
                served = src.filtered(src.ui.config(b'server', b'view'))
                pieces = sending(served, b'-', limit(dest.ui))
                if pieces is not None:
                    with dest.lock():
                        receive(dest, source, pieces, None)
        except (OSError, ValueError, error.LockError) as exc:
            dest.ui.debug(b'ci: %s\n' % stringutil.forcebytestr(exc))
    return peers

# wire.py - what servers tell clients about changesets, and how clients ask
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""The wire commands, both ends of them.

A server answers from the results log of its repository and from the daemon that
serves it, for changesets that the client may see. A path to a repository on the
same disk has no wire: then the server's function runs in this process.
"""

from __future__ import annotations

import functools
import json

from mercurial import (
    encoding,
    error,
    extensions,
    util,
    wireprototypes,
    wireprotov1server,
)
from mercurial.i18n import _
from mercurial.node import hex, short
from mercurial.utils import urlutil

from . import compat, exchange, hook, native

httplib = util.httplib
urlerr = util.urlerr

CAPABILITY = b'hgci'

# As in crates/api/src/wire.rs.
MAXNODES = 200

# Of which a change can be waited for.
MAXWATCHED = 100
MAXTAG = 100

# The longest that a server keeps a client waiting for something new, in milliseconds.
MAXWAIT = 5000

# The least that a client waits, when something between it and the server cuts
# connections on which nothing comes.
MINWAIT = 250


# As in crates/api/src/ask.rs.
ASKS = (b'run', b'retry', b'cancel')
MAXASK = 64 * 1024


class Silent(Exception):
    """nobody answers; the argument says why, in the local encoding"""


# The server


def statuses(repo, nodes, seen='', wait=0):
    """what is known of those of ``nodes`` that can be seen in ``repo``, after ``wait``
    milliseconds if it is what had the tag ``seen``"""
    nodes = [node for node in nodes if repo.changelog.hasnode(node)]
    return native.Statuses.read(
        repo.root,
        hook.socket(repo.ui),
        nodes,
        True,
        exchange.defaultsource(repo.ui),
        seen,
        min(wait, MAXWAIT),
    )


def readlog(repo, node, job, attempt, offset, wait, tail=None):
    """a part of a job's log, as the wire has it; with ``tail`` its last bytes"""
    if not repo.changelog.hasnode(node):
        return nolog(_(b'unknown changeset %s') % hex(node))
    answer = native.read_log(
        repo.root,
        hook.socket(repo.ui),
        hex(node).decode('ascii'),
        job,
        attempt,
        offset,
        min(wait, MAXWAIT),
        tail,
    )
    if answer is None:
        return nolog(_(b'no daemon serves the repository'))
    return answer


def ask(repo, what, node, jobs, id, url):
    """asks the daemon to run, retry or cancel jobs, for whoever ``url`` names, if that
    one may push"""
    if not repo.changelog.hasnode(node):
        return refusal(_(b'unknown changeset %s; push it first') % short(node))
    try:
        mayask(repo, what, node, id, url)
    except error.Abort as exc:
        return refusal(_(b'that is for who may push: %s') % exc.message)
    answer = native.request(
        repo.root,
        hook.socket(repo.ui),
        what.decode('ascii'),
        hex(node).decode('ascii'),
        jobs,
        id,
        url,
    )
    if answer is None:
        return refusal(_(b'no daemon serves the repository'))
    return answer


def here(repo, what, node, jobs, id):
    """the same of the daemon that serves this repository, for this account; None where
    none does"""
    node = hex(node).decode('ascii')
    socket = hook.socket(repo.ui)
    return native.request(repo.root, socket, what.decode('ascii'), node, jobs, id, b'')


def mayask(repo, what, node, id, url):
    """runs the hooks by which administrators and wrappers such as hg-ssh refuse pushes:
    over ssh hg itself asks nobody"""
    name = b'hgci-' + what
    txnid = b'hgci:' + id.encode('ascii', 'replace')
    repo.hook(b'pretxnopen', throw=True, txnname=name, txnid=txnid)
    repo.hook(
        b'prepushkey',
        throw=True,
        namespace=b'hgci',
        key=hex(node),
        old=b'',
        new=what,
        source=b'serve',
        url=url,
    )


def refusal(why):
    """the answer that says why nothing was done"""
    return json.dumps({'error': encoding.unifromlocal(why)}).encode('utf-8')


def nolog(why, away=False):
    """the answer that says why there is no log, or not now; an error of hg's own
    protocol would reach the user of ssh in pieces"""
    part = {'attempt': 0, 'next': 0, 'done': True, 'error': encoding.unifromlocal(why)}
    if away:
        part.update(retry=1, away=True)
    return json.dumps(part).encode('utf-8') + b'\n'


def servestatus(repo, proto, nodes, others):
    try:
        # The same as decodelist, but with errors that are alike in all versions.
        wanted = [compat.bin(node) for node in nodes.split(b' ')] if nodes else []
        seen = others.get(b'seen', b'').decode('ascii')
        wait = int(others.get(b'wait', b'0'))
        most = MAXWATCHED if wait else MAXNODES
        if len(wanted) > most or any(len(node) != 20 for node in wanted):
            raise ValueError
        if len(seen) > MAXTAG or wait < 0:
            raise ValueError
    except ValueError:
        return wireprototypes.ooberror(b'hgci-status: bad arguments')
    found = statuses(repo, wanted, seen, patience(proto, wait))
    return wireprototypes.bytesresponse(found.encode(wanted))


def servelog(repo, proto, node, job, others):
    try:
        wanted = compat.bin(node)
        number = {key: int(others[key]) for key in others}
        offset, wait = (number.get(key, 0) for key in (b'offset', b'wait'))
        attempt = number.get(b'attempt')
        if len(wanted) != 20 or min(attempt or 0, offset, wait) < 0:
            raise ValueError
        name = job.decode('utf-8')
        part = readlog(repo, wanted, name, attempt, offset, patience(proto, wait))
    except (ValueError, OverflowError):
        part = nolog(b'hgci-log: bad arguments')
    return wireprototypes.bytesresponse(part)


def serveask(repo, proto, what, node, jobs, id):
    try:
        wanted = compat.bin(node)
        names = jobs.decode('utf-8').split('\n') if jobs else []
        if len(wanted) != 20 or what not in ASKS or len(jobs) > MAXASK:
            raise ValueError
        answer = ask(repo, what, wanted, names, id.decode('ascii'), proto.client())
    except ValueError:
        answer = refusal(b'hgci-ask: bad arguments')
    return wireprototypes.bytesresponse(answer)


def batch(orig, repo, proto, *args):
    """a batch of commands: none of them waits, or one request could hold a server for
    as long as it likes"""
    proto.hgcibatch = True
    try:
        return orig(repo, proto, *args)
    finally:
        proto.hgcibatch = False


def patience(proto, wait):
    """how long a command may wait that was asked to for ``wait`` milliseconds"""
    return 0 if getattr(proto, 'hgcibatch', False) else min(wait, MAXWAIT)


def capabilities(orig, repo, proto):
    return [*orig(repo, proto), CAPABILITY]


def setup(ui):
    """called when hg loads what answers wire commands"""
    extensions.wrapfunction(wireprotov1server, '_capabilities', capabilities)
    entry = wireprotov1server.commands[b'batch']
    entry.func = functools.partial(batch, entry.func)
    register = wireprotov1server.wireprotocommand
    register(b'hgci-status', b'nodes *', permission=b'pull')(servestatus)
    register(b'hgci-log', b'node job *', permission=b'pull')(servelog)
    register(b'hgci-ask', b'what node jobs id', permission=b'push')(serveask)


# The client


class Remote:
    """the repository at the default path, as far as it knows of CI

    With ``push``, at the one that pushes go to; with ``peer``, at the other end of a
    connection that is left to who opened it. Connects when it is first needed. Raises
    Silent where that fails; what is called afterwards connects anew.
    """

    def __init__(self, repo, push=False, peer=None):
        self._repo = repo
        # The longest that the server may hold a call, in milliseconds.
        self._hold = MAXWAIT
        path = compat.pushpath if push else compat.defaultpath
        self._path = path(repo.ui)
        self._peer = peer
        self._own = peer is None

    def __enter__(self):
        return self

    def __exit__(self, exctype, excvalue, traceback):
        self._close()

    def _close(self):
        peer, self._peer = self._peer, None
        if peer is not None and self._own:
            peer.close()
        self._own = True

    def __bool__(self):
        return self._path is not None

    def _connect(self):
        if self._peer is None:
            if self._path is None:
                raise Silent(_(b'there is no default path'))
            with told(self._path):
                self._peer = compat.peer(self._repo, self._path)
            if self._peer.local() is None:
                # What ssh and the server say beside the answer is not what is shown.
                ui = self._peer.ui
                ui.setconfig(b'ui', b'message-output', b'stderr', b'hgci')
        if self._peer.local() is None and not self._peer.capable(CAPABILITY):
            where = urlutil.hidepassword(self._path)
            raise Silent(_(b'%s knows nothing of CI') % where)
        return self._peer

    def _call(self, command, **args):
        try:
            peer = self._connect()
            with told(self._path):
                return peer._call(command, **args)
        except Silent:
            # Perhaps the connection, which somebody cut because nothing came.
            if args.get('wait', b'0') != b'0':
                self._hold = max(self._hold // 2, MINWAIT)
            self._close()
            raise

    def _served(self):
        """the repository itself, as others see it, where it is on this disk"""
        repo = self._connect().local()
        return repo and repo.filtered(repo.ui.config(b'server', b'view'))

    def statuses(self, nodes, seen='', wait=0):
        """what the server knows of ``nodes``; it waits if that is what had the tag
        ``seen``"""
        served = self._served()
        if served is not None:
            return statuses(served, nodes, seen, wait)
        found = None
        # Only the first call waits: what follows is the rest of the same answer.
        more = {'seen': seen.encode('ascii'), 'wait': b'%d' % min(wait, self._hold)}
        while nodes:
            part = nodes[:MAXNODES]
            args = {'nodes': wireprototypes.encodelist(part)}
            answer = self._call(b'hgci-status', **args, **(more if wait else {}))
            wait = 0
            with told(self._path):
                known = native.Statuses.decode(answer)
            if not 0 < known.done <= len(part):
                where = urlutil.hidepassword(self._path)
                raise Silent(_(b'%s does not answer all of it') % where)
            nodes = nodes[known.done :]
            if found is None:
                found = known
            else:
                found.merge(known)
        return found

    def ask(self, what, node, jobs, id):
        """what becomes of a request, as the wire has it"""
        served = self._served()
        if served is not None:
            return ask(served, what, node, jobs, id, b'')
        args = {
            'what': what,
            'node': hex(node),
            'jobs': '\n'.join(jobs).encode('utf-8'),
            'id': id.encode('ascii'),
        }
        if urlutil.url(self._connect().url()).scheme in (b'http', b'https'):
            # What may change something comes as POST, as pushkey does.
            args['data'] = b''
        return self._call(b'hgci-ask', **args)

    def log(self, node, job, attempt, offset, wait):
        """a part of a job's log, as the wire has it"""
        served = self._served()
        if served is not None:
            return readlog(served, node, job, attempt, offset, wait)
        args = {
            'node': hex(node),
            'job': job.encode('utf-8'),
            'offset': b'%d' % offset,
            'wait': b'%d' % min(wait, self._hold),
        }
        if attempt is not None:
            args['attempt'] = b'%d' % attempt
        return self._call(b'hgci-log', **args)


class told:
    """turns the many ways in which a peer fails into Silent"""

    def __init__(self, path):
        self._where = urlutil.hidepassword(path)

    def __enter__(self):
        return self

    def __exit__(self, exctype, exc, traceback):
        if exctype is None or issubclass(exctype, Silent):
            return
        if issubclass(exctype, error.Abort):
            why = exc.message
        elif issubclass(exctype, (error.RepoError, error.ResponseError)):
            # What follows the first line is the page that came instead of an answer.
            why = words(exc).split(b'\n')[0].rstrip(b':')
        elif issubclass(exctype, (OSError, ValueError, httplib.HTTPException)):
            why = words(exc)
        else:
            return
        raise Silent(b'%s: %s' % (self._where, why)) from exc


def words(exc):
    """what an error says, in the local encoding: those of hg say it in bytes, and
    those of the network often have another error inside, as the reason or in place
    of a text"""
    if isinstance(exc, urlerr.httperror):
        return encoding.strtolocal(str(exc))
    inner = getattr(exc, 'reason', None) or getattr(exc, 'strerror', None)
    if inner is None and exc.args and isinstance(exc.args[0], bytes):
        inner = exc.args[0]
    if isinstance(inner, Exception):
        return words(inner)
    if isinstance(inner, bytes):
        return inner
    return encoding.strtolocal(str(inner or exc))

# validate.py - server side: look at the pipeline of a push before it is accepted
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""A malformed ``.hgci.toml`` is best known while pushing.

Whether a transaction brought one is asked of the history of that one file, so that
it costs the same for one changeset as for ten thousand.
"""

from __future__ import annotations

from mercurial import error
from mercurial.i18n import _
from mercurial.node import short
from mercurial.utils import stringutil

from . import native

FILE = b'.hgci.toml'

# The most versions of the file that one transaction makes us read: those that no newer
# one of it replaces, so mostly one for each of its heads.
MAXREAD = 100


class TooMany(Exception):
    """there are more versions than are looked at"""


def watch(repo, tr):
    """look at the pipelines that ``tr`` brings before it closes"""
    level = repo.ui.config(b'hgci', b'validate')
    if level not in (b'no', b'warn', b'refuse'):
        repo.ui.warn(_(b'ci: [hgci] validate: not no, warn or refuse: %s\n') % level)
        level = b'warn'
    if level != b'no':
        tr.addvalidator(b'hgci', lambda tr: validate(repo, tr, level))


def validate(repo, tr, level):
    if tr.hookargs.get(b'source') == b'strip':
        # Changesets that were here already.
        return
    try:
        found = mistakes(repo, tr.changes[b'origrepolen'])
    except TooMany:
        why = _(b'more than %d versions of %s are new') % (MAXREAD, FILE)
        if level == b'refuse':
            raise error.Abort(why, hint=_(b'push fewer heads at once')) from None
        repo.ui.warn(_(b'ci: %s: not all are looked at\n') % why)
        return
    except Exception as exc:
        # Other extensions have other filelogs; a check is no reason to fail a push.
        repo.ui.debug(b'ci: %s: %s\n' % (FILE, stringutil.forcebytestr(exc)))
        return
    for node, line in found:
        repo.ui.warn(_(b'ci: %s (in %s)\n') % (line, short(node)))
    # With wait, the daemon says the same: once is enough.
    repo.__dict__['_hgcishown'] = {line for node, line in found}
    if found and level == b'refuse':
        raise error.Abort(
            _(b'malformed %s in %s') % (FILE, short(found[0][0])),
            hint=_(b"see 'hgci check'"),
        )


def mistakes(repo, first):
    """what is wrong with pipelines of changesets from number ``first`` on: pairs of
    node and line"""
    found = []
    for count, (node, content) in enumerate(brought(repo, first)):
        lines = native.mistakes(content)
        if lines and b'l' in repo.unfiltered()[node].flags(FILE):
            # Its content is a path.
            lines = native.symlink()
        if (lines or count == MAXREAD) and not found and not native.applies(repo.root):
            return []
        if count == MAXREAD:
            raise TooMany
        found += [(node, line) for line in lines]
    return found


def brought(repo, first):
    """the newest pipelines with changesets from number ``first`` on, as pairs of
    changeset and content, without those that newer ones of them replace"""
    filelog = repo.file(FILE)
    cl = repo.changelog
    replaced = set()
    for rev in range(len(filelog) - 1, -1, -1):
        changeset = filelog.linkrev(rev)
        if changeset < first:
            break
        if rev not in replaced:
            yield cl.node(changeset), content(filelog, rev)
        replaced.update(filelog.parentrevs(rev))


def content(filelog, rev):
    if filelog.size(rev) > native.MAX_PIPELINE:
        # Too large to be read, and refused by that alone.
        return b'#' * (native.MAX_PIPELINE + 1)
    return filelog.read(filelog.node(rev))

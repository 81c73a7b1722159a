# ci.py - client side: what looks like a command of hgci and is a commit
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""``hg ci`` is hg's alias of commit, so ``hg ci status`` commits a file."""

from __future__ import annotations

from mercurial import commands, error, exthelper, pathutil
from mercurial.i18n import _

eh = exthelper.exthelper()

WORDS = {b'status', b'log', b'run', b'retry', b'cancel', b'try'}


@eh.wrapcommand(b'commit')
def commit(orig, ui, repo, *pats, **opts):
    if pats and pats[0] in WORDS and not named(repo, pats[0]):
        command = b'ci-' + pats[0]
        if command in commands.table:
            hint = _(b"use 'hg %s'; 'hg ci' is 'hg commit'") % command
        else:
            hint = _(b"'hg ci' is 'hg commit'")
        raise error.InputError(_(b"no file named '%s'") % pats[0], hint=hint)
    return orig(ui, repo, *pats, **opts)


def named(repo, path):
    """whether ``path`` is a file or folder, or was one in the parent"""
    path = pathutil.canonpath(repo.root, repo.getcwd(), path)
    if repo.wvfs.lexists(path):
        return True
    # The second is what largefiles keeps in place of a file.
    paths = (path, b'.hglf/' + path)
    parents = repo[None].parents()
    return any(name in ctx or ctx.hasdir(name) for name in paths for ctx in parents)

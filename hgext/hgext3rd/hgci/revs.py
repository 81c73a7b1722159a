# revs.py - client side: the changeset that a command is about
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.

from __future__ import annotations

from mercurial import error, logcmdutil
from mercurial.i18n import _


def changeset(repo, rev):
    """the changeset that ``rev`` names; without, the parent of the working directory"""
    ctx = logcmdutil.revsingle(repo, rev) if rev else repo[b'.']
    if ctx.node() is None:
        # As hg itself says where it takes changesets alone.
        message = _(b'working directory revision cannot be specified')
        raise error.InputError(message)
    return ctx

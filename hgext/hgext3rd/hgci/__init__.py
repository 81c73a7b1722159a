# hgci - continuous integration native to Mercurial
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""continuous integration that lives inside Mercurial

On a server, where ``socket`` names the socket of the daemon hgcid, the
extension tells the daemon of every transaction. It registers its own hooks::

  [hgci]
  socket = /run/hgci/hgcid.sock
  # the most that the hook may cost a push
  deadline = 300ms
  # wait this long for the plan, to tell the pusher counts and mistakes
  wait = 0ms
  # a push whose .hgci.toml is malformed: no (say nothing), warn or refuse
  validate = warn

Setting it for a whole machine is safe: the hook acts only in repositories whose
own hgrc names the socket, or which the daemon serves. A push never fails because
the daemon does not answer: it is written into ``.hg/hgci/spool``, and built later.
Where hg cannot load extensions, the program ``hgci-hook`` does the same.

The pages of :hg:`serve` and hgweb show the states of changesets, and ``/ci/NODE``
the jobs of one and their logs, to whoever may read the repository there.

In a clone nothing is to be set but ``[extensions] hgci =``. :hg:`ci-status` shows
how the jobs of a changeset ended or where they stand, :hg:`ci-log` what a job
wrote; with --watch and -f they go on until the end. The server at the default path
answers, over hg's own connection: whoever may pull may see it. Pulls bring results
along (``exchange = no`` in ``[hgci]`` stops that, ``exchange-limit`` bounds it), for
the template keywords ``{ci_state}``, ``{ci_jobs}`` and ``{ci_url}``, the style ``ci``
and the revset ``ci()`` of :hg:`log`, and a word in :hg:`summary`. Whoever may push
may ask for runs with :hg:`ci-run`, :hg:`ci-retry` and :hg:`ci-cancel`. What is to be
run is said by the file ``.hgci.toml`` at the root of a changeset; ``hgci check`` looks
at one before it is pushed.

Colours of states, for ``[color]``, are the labels ``ci.passed``, ``ci.failed``,
``ci.errored``, ``ci.timed-out``, ``ci.cancelled``, ``ci.superseded``,
``ci.skipped``, ``ci.running``, ``ci.queued`` and ``ci.waiting``.
"""

from __future__ import annotations

from mercurial import bundle2, exthelper, wireprotov1server
from mercurial import exchange as hgexchange

from . import ask, ci, compat, exchange, hook, log, show, status, summary, web, wire

__version__ = b'0.1.0'

# As in scripts/requirements*.txt: with others, hg puts each crash down to us.
testedwith = b'6.1.4 6.3.2 6.5.3 7.0.1 7.2.4'
minimumhgversion = b'6.1'
buglink = b'https://hgci.example.org/issues'

# As in exchange.py, which is not loaded for it.
PART = b'hgci-results'

eh = exthelper.exthelper()
for module in (hook, status, log, ask, show, summary, web, ci):
    eh.merge(module.eh)

# Those of all modules, for not all of them are loaded each time.
eh.configitem(b'hgci', b'socket', default=None)
eh.configitem(b'hgci', b'deadline', default=b'300ms')
eh.configitem(b'hgci', b'wait', default=b'0ms')
eh.configitem(b'hgci', b'validate', default=b'warn')
eh.configitem(b'hgci', b'exchange', default=True)
eh.configitem(b'hgci', b'exchange-limit', default=b'256MB')


@eh.uisetup
def setup(ui):
    # Most commands exchange nothing, and hg loads nothing for it: neither do we. But
    # what a repository on this disk can is asked before anything is exchanged.
    compat.whenloaded(bundle2, lambda: bundle2.capabilities.update({PART: ()}))
    compat.whenloaded(hgexchange, lambda: exchange.setup(ui))
    compat.whenloaded(wireprotov1server, lambda: serve(ui))
    compat.wrapclone(lambda *args, **kwargs: exchange.clone(*args, **kwargs))


def serve(ui):
    wire.setup(ui)
    # Servers read the arguments of getbundle before they load this.
    compat.load(hgexchange)


# Loaded by hg's colours.
colortable = {
    b'ci.passed': b'green',
    b'ci.failed': b'red bold',
    b'ci.errored': b'magenta bold',
    b'ci.timed-out': b'red',
    b'ci.cancelled': b'yellow',
    b'ci.superseded': b'none',
    b'ci.skipped': b'none',
    b'ci.running': b'cyan',
    b'ci.queued': b'none',
    b'ci.waiting': b'none',
}

cmdtable = eh.cmdtable
configtable = eh.configtable
revsetpredicate = compat.revsets(eh.revsetpredicate)
templatekeyword = eh.templatekeyword
uisetup = eh.finaluisetup
extsetup = eh.finalextsetup
reposetup = eh.finalreposetup

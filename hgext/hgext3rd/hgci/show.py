# show.py - results wherever Mercurial shows changesets
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""Template keywords, a style for hg log, and revsets.

All of it reads the logs on disk: the repository's own and those that pulls brought.
"""

from __future__ import annotations

from mercurial import (
    encoding,
    error,
    extensions,
    exthelper,
    formatter,
    revsetlang,
    smartset,
)
from mercurial.i18n import _
from mercurial.node import hex
from mercurial.utils import stringutil

from . import compat, exchange, fields, native
from .text import link, local, warn

eh = exthelper.exthelper()

# What `hg log -T ci` shows, in a line.
STYLE = (
    b'{label("log.changeset changeset.{phase}", node|short)}'
    b' {label("ci.{ci_state}", pad(ci_state, 10))}'
    b' {desc|firstline} ({author|user}'
    b'{if(bookmarks, ", {label(\'log.bookmark\', bookmarks)}")}'
    b'{if(tags, ", {label(\'log.tag\', tags)}")})\n'
)


@eh.uisetup
def uisetup(ui):
    wrap = extensions.wrapfunction
    compat.whenloaded(
        formatter, lambda: wrap(formatter, 'lookuptemplate', lookuptemplate)
    )


def lookuptemplate(orig, ui, topic, tmpl):
    # As an item of [templates] it would be listed, and hide that of a repository.
    if tmpl == b'ci' and not ui.config(b'templates', b'ci'):
        tmpl = STYLE
    return orig(ui, topic, tmpl)


def statesof(repo):
    """the states of all changesets that the logs tell of"""
    default = exchange.defaultsource(repo.ui)
    states = native.States(repo.root, default, repo.cachevfs.base)
    warn(repo, states.notes)
    return states


def cached(context, mapping, key, make):
    """what ``make`` returns, made once for all that a template shows"""
    cache = context.resource(mapping, b'cache')
    if key not in cache:
        cache[key] = make()
    return cache[key]


def buildof(context, mapping):
    """the build of a changeset as the logs have it, or None"""
    repo = context.resource(mapping, b'repo')
    node = context.resource(mapping, b'ctx').node()
    if node is None:
        return None

    def read():
        found = native.Statuses.read(
            repo.root, None, [node], False, exchange.defaultsource(repo.ui)
        )
        warn(repo, found.notes)
        return found.build(node)

    return cached(context, mapping, b'hgci-build-%s' % hex(node), read)


@eh.templatekeyword(b'ci_state', requires={b'repo', b'ctx', b'cache'})
def showstate(context, mapping):
    """String. State of the changeset's CI build. Empty where none is known."""
    repo = context.resource(mapping, b'repo')
    node = context.resource(mapping, b'ctx').node()
    if node is None:
        return b''
    states = cached(context, mapping, b'hgci-states', lambda: statesof(repo))
    return local(states.of(node) or '')


@eh.templatekeyword(b'ci_jobs', requires={b'repo', b'ctx', b'cache'})
def showjobs(context, mapping):
    """List of dicts. Jobs of the changeset's CI build, with ``name``, ``state``,
    ``attempt``, ``exit``, ``duration``, ``started``, ``pool``, ``host``, ``url``."""
    build = buildof(context, mapping)
    jobs = [fields.ofjob(job) for job in build['jobs']] if build else []
    return fields.Jobs(jobs, tmpl=b'{name} {state}', sep=b', ')


@eh.templatekeyword(b'ci_url', requires={b'repo', b'ctx', b'cache'})
def showurl(context, mapping):
    """String. Where the changeset's CI build is seen in a browser, if anywhere."""
    build = buildof(context, mapping)
    return link(build['url']) if build else b''


def statename(x):
    """the state that an argument of ci() names"""
    # Without quotes timed-out is what is in timed and not in out.
    if x[0] == b'difference' and [part[0] for part in x[1:]] == [b'symbol'] * 2:
        return b'-'.join(revsetlang.getsymbol(part) for part in x[1:])
    return revsetlang.getstring(x, _(b'ci requires a state'))


@eh.revsetpredicate(b'ci([state[, job]])', safe=True)
def revsetci(repo, subset, x):
    """Changesets with CI results: all of them, those whose build is in the state, or
    those with a job of that name in it.

    States are passed, failed, errored, timed-out, cancelled, superseded, skipped and
    running.
    """
    args = revsetlang.getargs(x, 0, 2, _(b'ci takes a state and the name of a job'))
    state = job = None
    if args:
        state = encoding.unifromlocal(statename(args[0]))
    if len(args) > 1:
        job = revsetlang.getstring(args[1], _(b'ci requires the name of a job'))
        job = encoding.unifromlocal(job)
    try:
        nodes = statesof(repo).select(state, job)
    except ValueError as exc:
        raise error.ParseError(
            _(b'ci: there is no state %s') % stringutil.pprint(statename(args[0])),
            hint=_(b'states are %s') % stringutil.forcebytestr(exc),
        ) from exc
    getrev = repo.unfiltered().changelog.index.get_rev
    revs = {getrev(node) for node in nodes}
    revs.discard(None)
    # Up to hg 6.1, what is hidden may not even be asked for.
    return subset & smartset.baseset(revs - repo.changelog.filteredrevs)

# status.py - client side: hg ci-status
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""What is known of changesets, and how it is shown.

The results log of the repository on disk comes first. Then whoever knows what is
queued and running: the daemon that serves this repository, else the repository
at the default path. The latter is asked over the network, so only for what the
log does not have, or with --live.
"""

from __future__ import annotations

from mercurial import (
    cmdutil,
    encoding,
    error,
    exthelper,
    formatter,
    logcmdutil,
    registrar,
)
from mercurial.i18n import _
from mercurial.node import bin, hex, short

from . import exchange, fields, hook, native, predecessors, watch, wire
from .text import link, local, printable

eh = exthelper.exthelper()

UNKNOWN = 3

# What there are numbers of.
TESTS = (b'passed', b'failed', b'skipped')


@eh.command(
    b'ci-status',
    [
        (b'r', b'rev', [], _(b'show the state of these changesets'), _(b'REV')),
        (b'', b'live', None, _(b'fail when what is queued and running is not known')),
        (b'', b'watch', None, _(b'show what changes until all has ended')),
        *cmdutil.formatteropts,
    ],
    _(b'[-r] [REV]...'),
    helpcategory=registrar.command.CATEGORY_CHANGE_NAVIGATION,
    intents={registrar.INTENT_READONLY},
)
def cistatus(ui, repo, *revs, **opts):
    """show the state of the CI jobs of changesets

    Without REV, of the parent of the working directory.

    What has ended is in the results log of the repository. What is queued and
    running is known to the daemon: in a repository that it serves it is asked
    there, in a clone over the default path, which is asked only for changesets
    that the log does not have. When nobody answers, what the log has is shown,
    and a warning; with --live that is an error, and the default path is always
    asked.

    A changeset that replaces others (amended, rebased, ...) and has no state of its
    own is shown with that of the nearest of them, named as such. Where the files of
    both are the same, as when only the description was changed, it is carried over
    and counts as its own; otherwise no CI is known for REV all the same.

    With --watch, which implies --live, what changes is shown until all has ended:
    in a terminal as a table that is kept up to date, elsewhere as a line for each
    change. With -T, what is known at the end is shown.

    With -v, also where each job ran and can be seen; with -q, the names of the
    jobs alone.

    .. container:: verbose

      Template:

      The following keywords are supported. See also :hg:`help templates`.

      :node:    String. The changeset, 40 hexadecimal digits.
      :state:   String. The state of the build.
      :build:   Integer. The number of the build.
      :push:    Integer. The number of the push that brought the changeset.
      :source:  String. ``log`` or ``live``.
      :message: String. What is wrong with the pipeline, if it is malformed.
      :url:     String. The page of the build.
      :predecessor: String. The changeset that the build is of, if REV replaces it
                and has none of its own.
      :carried: Boolean. Whether both have the same files, so that it counts.
      :jobs:    List of jobs with name, state, attempt, exit, signal, duration,
                started, pool, host, tests, allow-failure, why and url.

      For example::

        hg ci-status -T '{jobs % "{name} {state}\\n"}'

    Returns 0 if all passed, was allowed to fail or was skipped, 1 if something
    failed, errored, timed out, was cancelled or superseded, 2 if something has
    not ended yet, 3 if no CI is known for REV. With several REVs the largest of
    these counts.
    """
    specs = [*revs, *opts['rev']]
    if specs:
        revset = logcmdutil.revrange(repo, specs)
        nodes = [repo.changelog.node(rev) for rev in revset]
    else:
        nodes = [repo[b'.'].node()]
    show = table if ui.formatted() else lines
    template = opts['template']
    if not opts['watch']:
        ui.pager(b'ci-status')
        known = gather(ui, repo, nodes, opts['live'])
    elif template:
        known = watch.until_over(ui, repo, nodes)
    else:
        return watch.show(ui, repo, nodes, show)

    ret = 0
    with ui.formatter(b'ci-status', {b'template': template}) as fm:
        for node, build, status in outcomes(ui, repo, nodes, known):
            ret = max(ret, status)
            if fm.isplain():
                if status == UNKNOWN:
                    ui.warn(_(b'no CI known for %s\n') % short(node))
                if build is not None:
                    show(ui, fm, build)
            elif build is not None:
                data(fm, repo, build)
    return ret


def outcomes(ui, repo, nodes, known):
    """each of ``nodes``, the build that is shown, its own or a predecessor's, or None,
    and the exit status"""
    before = predecessors.inherited(ui, repo, nodes, known)
    for node in nodes:
        build, old = known.build(node), before.get(node)
        own = build is not None or (old is not None and old.same)
        if old is not None:
            build = dict(old.build, node=hex(node).decode('ascii'), old=old)
        yield node, build, build['exit_status'] if own else UNKNOWN


def origin(build):
    """of what changeset a build is, where it is of another one"""
    old = build.get('old')
    if old is None:
        return None
    if old.same:
        return _(b'carried over from %s: the same files') % short(old.node)
    return _(b'of its predecessor %s') % short(old.node)


def gather(ui, repo, nodes, live):
    """what is known of ``nodes``, after telling what is not"""
    default = exchange.defaultsource(ui)
    known = native.Statuses.read(repo.root, hook.socket(ui), nodes, True, default)
    why = known.why
    if nodes and known.live is None and (live or not known.final_for(nodes)):
        try:
            with wire.Remote(repo) as remote:
                known.merge(remote.statuses(nodes))
            why = known.why
            if known.live is None:
                why = _(b'no daemon serves the repository')
        except wire.Silent as inst:
            why = inst.args[0]
    for note in known.notes:
        ui.warn(b'ci: %s\n' % printable(note))
    if why:
        why = printable(why)
        if live:
            message = _(b'what is queued and running is not known: %s') % why
            hint = _(b'without --live, what the results log has is shown')
            raise error.Abort(message, hint=hint)
        ui.warn(_(b'ci: showing the results log alone: %s\n') % why)
    return known


def data(fm, repo, build):
    """one item of templated output"""
    fm.startitem()
    fm.context(ctx=repo[bin(build['node'])])
    fm.data(
        node=build['node'].encode('ascii'),
        state=local(build['state']),
        build=build['build'],
        push=build['push'],
        source=local(build['source']),
    )
    if build['message']:
        fm.data(message=local(build['message']))
    if link(build['url']):
        fm.data(url=link(build['url']))
    old = build.get('old')
    if old is not None:
        fm.data(predecessor=hex(old.node), carried=old.same)
    jobs = []
    for job in build['jobs']:
        tests = job['tests']
        if tests is not None:
            tests = fm.formatdict(dict(zip(TESTS, tests)))
        jobs.append({**fields.ofjob(job), b'tests': tests})
    if isinstance(fm, formatter.templateformatter):
        jobs = fields.Jobs(jobs, tmpl=b'{name} {state}\n')
    fm.data(jobs=jobs)


def details(ui, job):
    """what is worth saying of a job besides its state, as a list"""
    words = []
    if job['exit']:
        words.append(b'exit %d' % job['exit'])
    if job['signal']:
        words.append(b'signal %d' % job['signal'])
    if job['allow-failure']:
        words.append(_(b'allowed to fail'))
    if job['duration'] is not None:
        words.append(seconds(job['duration']))
    if job['tests'] is not None:
        passed, failed, skipped = job['tests']
        words.append(_(b'%d of %d tests failed') % (failed, passed + failed + skipped))
    if job['attempt'] > 1:
        words.append(_(b'attempt %d') % job['attempt'])
    if job['why']:
        words.append(printable(job['why']))
    if ui.verbose:
        if job['host']:
            words.append(printable(job['host']))
        if link(job['url']):
            words.append(link(job['url']))
    return words


def seconds(duration):
    """a duration as people say it"""
    if duration < 60:
        return b'%.1fs' % duration
    minutes, rest = divmod(int(duration), 60)
    if minutes < 60:
        return b'%dm%02ds' % (minutes, rest)
    return b'%dh%02dm' % divmod(minutes, 60)


def lines(ui, fm, build):
    """a line for each job, for programs that read lines"""
    if not build['jobs']:
        line(ui, fm, build, None)
    for job in build['jobs']:
        line(ui, fm, build, job)


def line(ui, fm, build, job):
    """the line of one job; of a build that has none, with None"""
    name = printable(job['name']) if job else b'-'
    if ui.quiet:
        if job:
            fm.plain(name + b'\n')
        return
    state = (job or build)['state']
    if job:
        words = details(ui, job)
    else:
        words = [printable(build['message'])] if build['message'] else []
    if origin(build):
        words.append(origin(build))
    fm.plain(short(bin(build['node'])) + b' ')
    fm.plain(local(state), label=label(state))
    fm.plain(b' ' + name)
    fm.plain(b' (%s)\n' % b', '.join(words) if words else b'\n')


def table(ui, fm, build):
    """the build and a table of its jobs, for people"""
    if not ui.quiet:
        fm.plain(short(bin(build['node'])), label=b'log.changeset')
        fm.plain(b' ')
        fm.plain(local(build['state']), label=label(build['state']))
        words = [_(b'build %d') % build['build'], _(b'push %d') % build['push']]
        if origin(build):
            words.append(origin(build))
        fm.plain(b' (%s)\n' % b', '.join(words))
        if build['message']:
            fm.plain(b'  %s\n' % printable(build['message']))
        if link(build['url']) and ui.verbose:
            fm.plain(b'  %s\n' % link(build['url']))
    names = [printable(job['name']) for job in build['jobs']]
    width = max([encoding.colwidth(name) for name in names], default=0)
    states = max([len(job['state']) for job in build['jobs']], default=0)
    for name, job in zip(names, build['jobs']):
        if ui.quiet:
            fm.plain(name + b'\n')
            continue
        state = local(job['state'])
        fm.plain(b'  ')
        fm.plain(state, label=label(job['state']))
        words = details(ui, job)
        if not words:
            fm.plain(b'%s  %s\n' % (b' ' * (states - len(state)), name))
            continue
        pad = b' ' * (width - encoding.colwidth(name))
        fm.plain(b'%s  %s%s  ' % (b' ' * (states - len(state)), name, pad))
        fm.plain(b'  '.join(words) + b'\n')


def label(state):
    return b'ci.%s' % local(state)

# webpages.py - server side: the pages of hgweb about the jobs of a changeset
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""``/ci/NODE``, how the jobs of a changeset ended or where they stand, and
``/ci/NODE/JOB``, the end of a job's log.

Like other pages they come in the style that is asked for: ``/raw-ci/NODE/JOB`` is
the whole log as text, ``/json-ci/NODE`` what ``hg ci-status -T json`` has. Who may
not see a changeset in hgweb sees nothing of its jobs. What jobs wrote reaches no page
but as text, without anything that a terminal or a browser would obey.
"""

from __future__ import annotations

import copy
import os

from mercurial import pycompat, templatefilters, templateutil, util
from mercurial.i18n import _

from . import native, status, wire
from .text import link, local, printable, weburl

urlreq = util.urlreq

# The most of a log on a page: its end. And the most of one as text.
MAXPAGE = 128 * 1024
MAXTEXT = 64 * 1024 * 1024

# The frame of the pages, by style; `other.tmpl` for those that are not Mercurial's own.
FRAMES = {
    b'paper': 'paper.tmpl',
    b'coal': 'paper.tmpl',
    b'gitweb': 'gitweb.tmpl',
    b'monoblue': 'monoblue.tmpl',
}

TEXT = b'{jobs%"{node|short} {state} {name}{if(details, \' ({details})\')}\n"}'


def concerns(repo):
    """whether the repository has the extension and anything to do with CI"""
    return getattr(repo, 'hgci', False) and os.path.isdir(repo.sharedpath + b'/hgci')


def ci(web):
    """
    /ci[/{revision}[/{job}]]
    ------------------------

    Show how the CI jobs of a changeset ended, or where they stand. With a job, the
    end of its log; ``/raw-ci/{revision}/{job}`` is all of it.

    The ``attempt`` query string argument names an older attempt of the job.
    """
    from mercurial.hgweb import webutil

    if not concerns(web.repo):
        return refuse(web, b'404 Not Found', _(b'no CI here'))
    ctx = webutil.changectx(web.repo, web.req)
    # What is queued and running is another thing at each look.
    del web.res.headers[b'ETag']
    web.res.headers[b'Cache-Control'] = b'no-cache'
    web.res.headers[b'X-Content-Type-Options'] = b'nosniff'
    job = web.req.qsparams.get(b'file')
    if not job:
        return build(web, ctx)
    try:
        name = job.decode('utf-8')
        attempt = web.req.qsparams.get(b'attempt')
        attempt = None if attempt is None else int(attempt)
        if attempt is not None and not 0 < attempt < 1 << 32:
            raise ValueError
    except ValueError:
        return refuse(web, b'400 Bad Request', _(b'no such name or number'))
    return log(web, ctx, name, attempt)


def cicss(web):
    """
    /cicss
    ------

    The colours of states, for the pages that show them.
    """
    web.res.headers[b'Content-Type'] = b'text/css'
    web.res.headers[b'X-Content-Type-Options'] = b'nosniff'
    web.res.setbodybytes(read('style.css'))
    return web.res.sendresponse()


def read(name):
    path = os.path.join(os.path.dirname(__file__), 'templates', name)
    with open(path, 'rb') as file:
        return file.read()


def kind(web):
    """the type of what the style makes"""
    return web.res.headers[b'Content-Type'].split(b';')[0].strip()


def refuse(web, code, why):
    web.res.status = code
    return web.sendtemplate(b'error', error=why)


def build(web, ctx):
    """the page of a changeset"""
    known = wire.statuses(web.repo, [ctx.node()])
    found = known.build(ctx.node())
    if kind(web) == b'application/json':
        return sendjson(web, found and asjson(found))
    jobs = [jobmapping(web.repo.ui, job) for job in found['jobs']] if found else []
    values = {'jobs': templateutil.mappinglist(jobs), 'some': bool(jobs)}
    if known.live is False:
        values['silent'] = True
    if found:
        values.update(
            state=local(found['state']),
            build=found['build'],
            push=found['push'],
            message=printable(found['message'] or ''),
            page=link(found['url']),
        )
    return send(web, ctx, TEXT, 'build.tmpl', values)


def jobmapping(ui, job):
    """what the templates see of a job"""
    started = job['started']
    return {
        b'name': printable(job['name']),
        b'file': urlreq.quote(job['name'].encode('utf-8'), safe=b''),
        b'state': local(job['state']),
        b'details': b', '.join(status.details(ui, job)),
        b'host': printable(job['host'] or ''),
        b'started': None if started is None else (started, 0),
        b'page': link(job['url']),
        b'ran': job['attempt'] > 0,
    }


def asjson(found):
    """a build as `hg ci-status -T json` has it"""
    found = {**found, 'url': weburl(found['url'])}
    said = ('node', 'state', 'build', 'push', 'source')
    item = {name: found[name] for name in said}
    item.update({name: found[name] for name in ('message', 'url') if found[name]})
    item['jobs'] = []
    for job in found['jobs']:
        rare = ('signal', 'why', 'allow-failure')
        job = {name: job[name] for name in job if job[name] or name not in rare}
        if job['tests'] is not None:
            job['tests'] = dict(zip(status.TESTS, job['tests']))
        job['url'] = weburl(job['url'])
        item['jobs'].append(inbytes(job))
    return inbytes(item)


def inbytes(item):
    """a dictionary as Mercurial's JSON wants it"""
    return {
        name.encode('ascii'): value.encode('utf-8') if isinstance(value, str) else value
        for name, value in item.items()
    }


def sendjson(web, value):
    web.res.setbodybytes(templatefilters.json(value) + b'\n')
    return web.res.sendresponse()


def log(web, ctx, job, attempt):
    """the page of a job"""
    if kind(web) == b'text/plain':
        return textlog(web, ctx, job, attempt)
    part = logpart(web, ctx, job, attempt, 0, MAXPAGE)
    if part.error is not None:
        return nolog(web, part)
    content = part.content[-MAXPAGE:]
    start = part.next - len(content)
    if start > 0:
        # From the start of a line.
        cut = content.find(b'\n') + 1
        content, start = content[cut:], start + cut
    plain = native.Plain()
    text = plain.show(content) + plain.end()
    if kind(web) == b'application/json':
        value = {'node': ctx.hex(), 'job': job, 'attempt': part.attempt, 'start': start}
        value.update(next=part.next, done=part.done, log=text)
        return sendjson(web, inbytes(value))
    older = [olderattempt(web, n) for n in range(1, part.attempt)[-20:]]
    values = {
        'job': printable(job),
        'file': urlreq.quote(job.encode('utf-8'), safe=b''),
        'attempt': part.attempt,
        'older': templateutil.mappinglist(older),
        'before': b'%d' % start if start else b'',
        'log': local(text.decode('utf-8')),
        'more': not part.done,
    }
    return send(web, ctx, None, 'log.tmpl', values)


def olderattempt(web, number):
    variables = copy.copy(web.tmpl.defaults[b'sessionvars'])
    variables[b'attempt'] = number
    return {b'attempt': b'%d' % number, b'variables': variables}


def logpart(web, ctx, job, attempt, offset, tail=None):
    answer = wire.readlog(web.repo, ctx.node(), job, attempt, offset, 0, tail)
    return native.LogPart.decode(answer)


def notnow():
    # The daemon's own words have paths in them.
    return _(b'the log cannot be read now; try again')


def nolog(web, part):
    if part.retry is not None:
        web.res.headers[b'Retry-After'] = b'%d' % part.retry
    # Without a time, something at the daemon's side is broken.
    if part.retry is not None or part.away:
        return refuse(web, b'503 Service Unavailable', notnow())
    return refuse(web, b'404 Not Found', printable(part.error))


def textlog(web, ctx, job, attempt):
    """a log as text, from its start"""
    part = logpart(web, ctx, job, attempt, 0)
    if part.error is not None:
        return nolog(web, part)
    # What Plain makes of it, whatever the encoding of the pages.
    web.res.headers[b'Content-Type'] = b'text/plain; charset=UTF-8'
    if web.req.method != b'HEAD':
        web.res.setbodygen(parts(web, ctx, job, part))
    return web.res.sendresponse()


def parts(web, ctx, job, part):
    """the text from ``part`` on, up to where the log ends or is too long"""
    plain = native.Plain()
    left = MAXTEXT
    while True:
        yield plain.show(part.content[:left])
        left -= len(part.content)
        if part.done or not part.content:
            yield plain.end()
            return
        if left <= 0:
            yield plain.end() + b'\nhgci: the rest is left out\n'
            return
        part = logpart(web, ctx, job, part.attempt, part.next)
        if part.error is not None:
            yield plain.end() + b'\nhgci: the log breaks off: %s\n' % notnow()
            return


def send(web, ctx, text, content, values):
    """a page in the style that is asked for"""
    from mercurial.hgweb import webutil

    cache = web.tmpl.cache
    if b'html' in kind(web):
        style = web.tmpl.defaults[b'style']
        cache.setdefault(b'ci', read(FRAMES.get(style, 'other.tmpl')))
        cache[b'cicontent'] = read(content)
        cache[b'cijob'] = read('job.tmpl')
    elif text is not None and kind(web) == b'text/plain':
        cache[b'ci'] = text
    else:
        return refuse(web, b'400 Bad Request', _(b'no such page in this style'))
    values = {**pycompat.strkwargs(webutil.commonentry(web.repo, ctx)), **values}
    return web.sendtemplate(
        b'ci', symrev=webutil.symrevorshortnode(web.req, ctx), **values
    )

# web.py - server side: hgweb is taught when it is used
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""Where hgweb meets this extension. What it shows is in webstyle.py and webpages.py,
which are not loaded by commands that serve nothing."""

from __future__ import annotations

import threading

from mercurial import extensions, exthelper, hg

from . import compat, native, webpages, webstyle

eh = exthelper.exthelper()

_installing = threading.Lock()


@eh.extsetup
def extsetup(ui):
    # Each repository that hgweb serves is one of these, and nothing else is.
    compat.whenloaded(hg, wrap)


def wrap():
    extensions.wrapfunction(hg.cachedlocalrepo, '__init__', cachedlocalrepo)


def cachedlocalrepo(orig, self, repo):
    with _installing:
        install()
    return orig(self, repo)


def install():
    """teaches hgweb, once in a process"""
    from mercurial.hgweb import webcommands

    if getattr(webcommands, 'ci', None) is webpages.ci:
        return
    module = compat.hgwebmodule()
    extensions.wrapfunction(module.requestcontext, 'templater', templater)
    extensions.wrapfunction(module.hgweb, '_runwsgi', runwsgi)
    for command in (webpages.cicss, webpages.ci):
        name = command.__name__
        webcommands.webcommand(name.encode('ascii'))(command)
        setattr(webcommands, name, command)


def templater(orig, self, req):
    tmpl = orig(self, req)
    if webpages.concerns(self.repo):
        webstyle.change(tmpl)
    return tmpl


def runwsgi(orig, self, req, res, repo):
    """a browser may keep a page as long as neither repository nor results change

    hg's tag of a page knows of the repository alone. Ours has the results besides.
    """
    stamp = webpages.concerns(repo) and native.stamp(repo.root)
    if not stamp:
        return orig(self, req, res, repo)
    results = b'-%016x"' % stamp
    kept = req.headers.get(b'If-None-Match')
    if kept is not None:
        if kept.endswith(results):
            req.headers[b'If-None-Match'] = kept[: -len(results)] + b'"'
        else:
            del req.headers[b'If-None-Match']
    # Nothing is sent before the answer is read.
    answer = orig(self, req, res, repo)
    tag = res.headers.get(b'ETag')
    if tag is not None and tag.endswith(b'"'):
        res.headers[b'ETag'] = tag[:-1] + results
    return answer

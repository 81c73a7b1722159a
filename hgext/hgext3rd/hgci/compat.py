# compat.py - what differs between the supported versions of Mercurial
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""Everything here names the version of Mercurial that made it necessary, so that
it can go when that version goes. No other module looks at versions."""

from __future__ import annotations

import types

from mercurial.node import bin as unhexlify


def defaultpath(ui):
    """where pulls come from by default, as bytes, or None

    hg 5.8 made lists of paths of what was one path.
    """
    path = ui.paths.get(b'default')
    if isinstance(path, list):
        path = path[0] if path else None
    if path is None:
        return None
    return path.loc or path.rawloc


def pushpath(ui):
    """where pushes go by default, as bytes, or None

    hg 5.8 made lists of paths, and hg 6.4 a variant of a path for pushes.
    """
    for name in (b'default-push', b'default'):
        paths = ui.paths.get(name)
        path = paths[0] if isinstance(paths, list) and paths else paths
        if path:
            if hasattr(path, 'get_push_variant'):
                path = path.get_push_variant()
                return path.loc or path.rawloc
            return path.pushloc or path.loc
    return None


def bin(text):
    """the bytes of hexadecimal digits; ValueError where they are none

    hg 6.2 left that to binascii. Before, it was TypeError.
    """
    try:
        return unhexlify(text)
    except TypeError as exc:
        raise ValueError(str(exc)) from exc


def peer(repo, path):
    """the peer at ``path``; hg 7.2 moved the function"""
    try:
        from mercurial.repo import factory
    except ImportError:
        from mercurial import hg as factory
    return factory.peer(repo, {}, path)


def parthandler(parttype):
    """decorator of a handler of bundle2 parts; hg 7.2 moved it"""
    try:
        from mercurial import bundle2_part_handlers as handlers
    except ImportError:
        from mercurial import bundle2 as handlers
    return handlers.parthandler(parttype)


def wrapclone(wrapper):
    """wraps the function that clones; hg 7.2 moved it"""
    from mercurial import extensions

    try:
        from mercurial.cmd_impls import clone as module
    except ImportError:
        from mercurial import hg as module
    whenloaded(module, lambda: extensions.wrapfunction(module, 'clone', wrapper))


def revsets(predicates):
    """what is for hg to register of ``predicates``, a registrar

    Before hg 7.2 that loaded all of revset at each start; here it waits.
    """
    try:
        from mercurial import revset_predicates  # noqa: F401
    except ImportError:
        from mercurial import revset
    else:
        return predicates
    whenloaded(revset, lambda: revset.loadpredicate(None, b'hgci', predicates))
    return None


def whenloaded(module, callback):
    """calls ``callback`` as soon as ``module`` is loaded, before anybody uses it

    hg imports modules when something of them is first used, if its demandimport is
    on: then a module is what importlib's LazyLoader made, which asks its spec for
    the loader. Else it is loaded already.
    """
    if type(module) is types.ModuleType:
        callback()
        return
    # Asking the module itself would load it.
    spec = object.__getattribute__(module, '__spec__')
    spec.loader = _Loader(spec.loader, callback)


def load(module):
    """loads ``module``, where that was put off"""
    getattr(module, '__dict__')  # noqa: B009


class _Loader:
    """a loader of modules that calls somebody afterwards"""

    def __init__(self, loader, callback):
        self._loader = loader
        self._callback = callback

    def exec_module(self, module):
        module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._callback()


def hgwebmodule():
    """the module of hgweb's classes; hg 7.2 moved them"""
    try:
        from mercurial.hgweb import hgweb_mod_inner as module
    except ImportError:
        from mercurial.hgweb import hgweb_mod as module
    return module

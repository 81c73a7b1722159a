# predecessors.py - client side: what is known of what a changeset replaces
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""A changeset that was amended, rebased, folded or split has no results of its own at
first. Those of a changeset that it replaces say something of it: all, where the files
are the same, and else, of the nearest, how it stood before.
"""

from __future__ import annotations

from mercurial import error

from . import exchange, hook, native

# How many changesets that one replaces, by way of others, are looked at.
MOST = 1000


class Inherited:
    """a build of a changeset that another one replaces"""

    def __init__(self, build, node, same):
        self.build = build
        # The changeset that it is of.
        self.node = node
        # Whether the files of both are the same: then it counts as the other's own.
        self.same = same


def inherited(ui, repo, nodes, known):
    """what those of ``nodes`` inherit of which nothing is ``known``, by node"""
    without = [node for node in nodes if known.build(node) is None]
    if not without or not repo.obsstore:
        return {}
    before = {node: nearest(repo, node) for node in without}
    wanted = sorted({old for found in before.values() for old in found})
    if not wanted:
        return {}
    default = exchange.defaultsource(ui)
    old = native.Statuses.read(repo.root, hook.socket(ui), wanted, True, default)
    builds = {}
    for node, found in before.items():
        built = [one for one in found if old.build(one) is not None]
        same = [one for one in built if havesamefiles(repo, node, one)]
        for one in (same or built)[:1]:
            builds[node] = Inherited(old.build(one), one, bool(same))
    return builds


def nearest(repo, node):
    """the changesets that ``node`` replaces, known or not, the nearest first"""
    found = []
    seen = {node}
    step = [node]
    while step and len(found) < MOST:
        last, step = step, []
        for successor in last:
            markers = repo.obsstore.predecessors.get(successor, ())
            for predecessor in sorted(marker[0] for marker in markers):
                if predecessor not in seen:
                    seen.add(predecessor)
                    step.append(predecessor)
        found += step
    return found[:MOST]


def havesamefiles(repo, node, predecessor):
    """whether two changesets have the same files, as far as both are here"""
    unfiltered = repo.unfiltered()
    try:
        one, other = unfiltered[node], unfiltered[predecessor]
    except error.RepoLookupError:
        return False
    if one.manifestnode() == other.manifestnode():
        return True
    # Of what has other parents, as after a fold, the same files have another number.
    return not one.manifest().diff(other.manifest())

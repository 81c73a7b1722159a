# buildbot_hook.py - tells a Buildbot of each changeset that came in
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""A changegroup hook that posts each changeset to Buildbot's change hook, as the hook that Buildbot
ships did before Mercurial's hook names became bytes. All go over one connection."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from typing import Any


def post(ui: Any, repo: Any, node: bytes, **kwargs: Any) -> None:
    port = ui.configint(b"buildbot", b"port")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    first = repo.changelog.rev(bytes.fromhex(node.decode()))
    for rev in range(first, len(repo)):
        ctx = repo[rev]
        fields = {
            "revision": ctx.hex().decode(),
            "author": ctx.user().decode(),
            "comments": ctx.description().decode(),
            "branch": ctx.branch().decode(),
            "repository": repo.root.decode(),
            "files": json.dumps([path.decode() for path in ctx.files()]),
        }
        body = urllib.parse.urlencode(fields)
        headers = {"content-type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/change_hook/base", body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status >= 300:
            ui.warn(b"buildbot: %d\n" % answer.status)
    connection.close()

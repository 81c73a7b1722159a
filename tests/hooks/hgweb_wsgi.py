"""hgweb as an administrator runs it under a WSGI server, behind a login that is taken on trust."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any
from wsgiref.simple_server import make_server

from mercurial.hgweb import hgweb

inner = hgweb(os.fsencode(os.environ["HGCI_TEST_REPO"]))


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["REMOTE_USER"] = "al ice"
    return inner(environ, start_response)


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, application)
    print(f"listening at http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()

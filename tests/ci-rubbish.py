"""A web server that fails an hg client in the ways that a URL's first folder names:
ci-rubbish.py PORT.

`close` ends the connection without an answer, `rubbish` answers what is not HTTP, `page` is some
web page, `missing` is 404. With `odd-…` it is an hg server with the extension, whose answers to the
extension's commands are no JSON (`odd-text`) or end too early (`odd-short`).
"""

from __future__ import annotations

import socketserver
import sys

CAPABILITIES = b"batch branchmap getbundle hgci httpheader=1024"


def answer(status: bytes, kind: bytes, body: bytes, missing: int = 0) -> bytes:
    length = b"content-length: %d" % (len(body) + missing)
    head = [b"HTTP/1.1 " + status, b"content-type: " + kind, length, b"connection: close"]
    return b"\r\n".join([*head, b"", body])


def answer_to(path: str) -> bytes:
    folder, _, query = path.strip("/").partition("?")
    if folder == "close":
        return b""
    if folder == "rubbish":
        return b"\x00\xff rubbish\r\n" * 100
    if folder == "missing":
        return answer(b"404 Not Found", b"text/html", b"<h1>Not here</h1>")
    if folder == "page":
        return answer(b"200 OK", b"text/html", b"<h1>Welcome</h1>\n" * 9)
    if "cmd=capabilities" in query:
        return answer(b"200 OK", b"application/mercurial-0.1", CAPABILITIES)
    missing = 100 if folder == "odd-short" else 0
    return answer(b"200 OK", b"application/mercurial-0.1", b"Hello\n", missing)


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        path = self.rfile.readline().decode("latin-1").split()[1]
        while self.rfile.readline().strip():
            pass
        self.wfile.write(answer_to(path))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


with Server(("localhost", int(sys.argv[1])), Handler) as server:
    print("ready", flush=True)
    server.serve_forever()

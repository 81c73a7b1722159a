"""Answers on a Unix socket what a daemon answers about builds and logs, out of a folder, so that
a test can stop it in the middle: ci-answers.py SOCKET FOLDER.

FOLDER/status.json is a list of builds; FOLDER/JOB is a log, to which nothing will be added once
FOLDER/JOB.done exists; FOLDER/JOB.fails is what an error 500 says in its place. The real daemon has
its tests in tests/e2e.
"""

from __future__ import annotations

import hashlib
import json
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

FOLDER = Path(sys.argv[2])
MOST = 1 << 20


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/api/v1/status":
            self.status(query)
        elif url.path == "/api/v1/log":
            self.log(query)
        else:
            self.answer(404, b'{"error": "no such page"}')

    def status(self, query: dict[str, list[str]]) -> None:
        end = time.monotonic() + int(query.get("wait", ["0"])[0]) / 1000
        while True:
            builds = json.loads((FOLDER / "status.json").read_text())
            found = [build for build in builds if build["node"] in query["node"]]
            text = json.dumps(found).encode()
            tag = hashlib.sha256(text).hexdigest()[:24]
            if tag not in query.get("seen", []) or time.monotonic() >= end:
                break
            time.sleep(0.02)
        planning = int((FOLDER / "planning").exists())
        self.answer(200, text, {"tag": tag, "planning": planning})

    def log(self, query: dict[str, list[str]]) -> None:
        job = FOLDER / query["job"][0]
        attempt = int(query.get("attempt", ["1"])[0])
        offset = int(query.get("offset", ["0"])[0])
        end = time.monotonic() + int(query["wait"][0]) / 1000
        fails = job.with_name(job.name + ".fails")
        if fails.exists():
            self.answer(500, json.dumps({"error": fails.read_text()}).encode())
            return
        if not job.exists() or attempt != 1:
            self.answer(404, b'{"error": "no log of this attempt"}')
            return
        done = job.with_name(job.name + ".done")
        if "tail" in query and job.exists():
            offset = max(0, job.stat().st_size - int(query["tail"][0]))
        # Whether it is done is looked up first: what is there then is all.
        over = done.exists()
        while job.stat().st_size <= offset and not over and time.monotonic() < end:
            time.sleep(0.02)
            over = done.exists()
        data = job.read_bytes()
        part = data[offset : offset + MOST]
        last = over and offset + len(part) == len(data)
        headers = {"attempt": attempt, "next": offset + len(part), "done": int(last)}
        self.answer(200, part, headers)

    def answer(self, status: int, body: bytes, headers: dict[str, Any] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(f"hgci-{name}", str(value))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


Server(sys.argv[1], Handler).serve_forever()

"""A web server on 127.0.0.1 for try_clients: files with ranges, and as much of a hub as `hf download` asks for."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECE_NBYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Hub:
    """The files of a directory, as those of one model `org/name`, and by themselves below /plain."""

    directory: Path
    fetched: list[str] = field(default_factory=list)
    """Names of files whose content was asked for."""

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if path.is_file())

    def revision(self) -> str:
        """Another one whenever a file has changed."""
        content = "".join(f"{name} {self.etag(self.directory / name)}" for name in self.names())
        return hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()

    def etag(self, path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def description(self) -> dict[str, object]:
        return {
            "_id": "0",
            "id": "org/name",
            "modelId": "org/name",
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "sha": self.revision(),
            "siblings": [{"rfilename": name} for name in self.names()],
        }

    def entries(self) -> list[dict[str, object]]:
        """Of the tree."""
        return [
            {"type": "file", "path": name, "oid": self.etag(path)[:40], "size": path.stat().st_size}
            for name in self.names()
            for path in [self.directory / name]
        ]


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The address of a server for as long as the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):
                self._answer(with_content=True)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

        def _answer(self, *, with_content: bool) -> None:
            path = self.path.partition("?")[0]
            if match := re.fullmatch(r"/(?:org/name/resolve/[^/]+|plain)/(.+)", path):
                self._send_file(hub.directory / match[1], with_content=with_content)
            elif re.fullmatch(r"/api/models/org/name/tree/.*", path):
                self._send(json.dumps(hub.entries()).encode(), with_content=with_content)
            elif re.fullmatch(r"/api/models/org/name(/revision/.*)?", path):
                self._send(json.dumps(hub.description()).encode(), with_content=with_content)
            else:
                self._send(b"{}", with_content=with_content, code=404)

        def _send(self, content: bytes, *, with_content: bool, code: int = 200) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_content:
                self.wfile.write(content)

        def _send_file(self, path: Path, *, with_content: bool) -> None:
            if not path.is_file():
                self._send(b"{}", with_content=with_content, code=404)
                return
            content = path.read_bytes()
            first, last = 0, len(content) - 1
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked:
                first, last = int(asked[1]), min(int(asked[2] or last), last)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            else:
                self.send_response(200)
            if with_content:
                hub.fetched.append(path.name)
            self.send_header("Content-Length", str(last + 1 - first))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{hub.etag(path)}"')
            self.send_header("X-Repo-Commit", hub.revision())
            self.end_headers()
            for at in range(first, last + 1 if with_content else first, PIECE_NBYTES):
                self.wfile.write(content[at : min(at + PIECE_NBYTES, last + 1)])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()

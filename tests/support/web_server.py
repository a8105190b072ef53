"""A web server on loopback that can cut connections short, for tests of downloads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """What is served, and what was asked.

    Args:
        files: contents by path.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.tags, self.moved = files, dict[str, str](), dict[str, str]()  # to other paths
        self.requests: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None  # bytes after which a connection breaks
        self.url = ""


@contextmanager
def on_loopback(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address at which requests are handled while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """The site at `site.url` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def _head(self) -> bytes | None:
            if self.path in site.moved:
                self.send_response(307)
                self.send_header("Location", site.moved[self.path])
                self.end_headers()
                return None
            content = site.files.get(self.path)
            if content is None:
                self.send_error(404)
                return None
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            if start and start >= len(content):
                self.send_error(416)
                return None
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", f'"{site.tags.get(self.path, "none")}"')
            self.send_header("X-Repo-Commit", "c0ffee")
            self.end_headers()
            return content[start:]

        def do_HEAD(self) -> None:
            self._head()

        def do_GET(self) -> None:
            site.requests.append((self.path, self.headers.get("Range")))
            content = self._head()
            if content is not None:
                self.wfile.write(content[: site.cut_after])

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    with on_loopback(Handler) as site.url:
        yield site

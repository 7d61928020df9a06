"""A model provider on 127.0.0.1 that plays a script, so that real CLIs can be tested without account or network."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dialects import Call, Dialect, Drop, Fail, Hang, Say, Step, dialect_of

Script = Sequence[Step] | Callable[[int, dict[str, Any]], Step]
"""Steps in order, of which the last repeats; or a function of the number of the request, from 0, and its body."""


class ModelServer(ThreadingHTTPServer):
    """requests: the bodies of the agent's own requests so far. asked: set whenever one came."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.others: list[str] = []
        self.asked = threading.Condition()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def step(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[Step, int]:
        """Note a request and return what it is answered with, and its number."""
        with self.asked:
            number = len(self.requests)
            self.requests.append(body)
            self.headers.append(headers)
            self.asked.notify_all()
        if callable(self.script):
            return self.script(number, body), number
        return self.script[min(number, len(self.script) - 1)], number

    def wait_for(self, requests: int, timeout_s: float = 60) -> bool:
        """Wait until so many requests have come."""
        with self.asked:
            return self.asked.wait_for(lambda: len(self.requests) >= requests, timeout_s)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.server.others.append(f"GET {self.path}")
        self._json(200, {"object": "list", "data": [], "models": []})

    def do_HEAD(self) -> None:
        self._json(200, {})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(data or b"{}")
        except ValueError:
            body = {}
        dialect = dialect_of(self.path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if dialect is None or "count_tokens" in self.path:
                self.server.others.append(f"POST {self.path}")
                self._json(200, {"input_tokens": 1, "totalTokens": 1})
            elif not dialect.is_main(body):
                self.server.others.append(f"side {self.path}")
                self._answer(dialect, Say("A title"), 9000, body)
            else:
                self._play(dialect, body)

    def _play(self, dialect: Dialect, body: dict[str, Any]) -> None:
        step, number = self.server.step(body, dict(self.headers))
        if isinstance(step, Fail):
            self._json(step.status, dialect.error(step), step.headers)
        elif isinstance(step, Hang):
            self.server.ended.wait(300)
            self.close_connection = True
        elif isinstance(step, Drop):
            self._begin("text/event-stream")
            self.close_connection = True
        else:
            self._answer(dialect, step, number, body)

    def _answer(self, dialect: Dialect, step: Say | Call, number: int, body: dict[str, Any]) -> None:
        pieces = list(dialect.pieces(step, number))
        is_stream = body.get("stream") or "stream" in self.path
        if not is_stream and len(pieces) == 1:
            self._json(200, pieces[0][1])
            return
        self._begin("text/event-stream")
        for name, data in pieces:
            head = f"event: {name}\n" if name else ""
            self._chunk(f"{head}data: {json.dumps(data)}\n\n".encode())
        if not pieces[0][0] and "enerateContent" not in self.path:
            self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _begin(self, content_type: str) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def model_server(script: Script) -> Iterator[ModelServer]:
    """Serve a script until the end of the block."""
    server = ModelServer(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()

"""A model hub and registry run by tests.

Speaks both protocols, with ranges, validators, redirects and tokens, and injects every fault that
was observed at real ones.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_BLOCK = 1 << 20
_SLOW_BLOCK = 1 << 14


class Hub:
    """The content served, and the faults to inject.

    ``faults`` are consumed, one per response with file content: cut, busy, whole, wrong_range,
    wrong_content, longer, stall, expired, moved. ``pace`` delays each block by that many seconds.
    ``asked`` are (path, Range header, Authorization header).
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, object] = {}
        self.listings: dict[str, dict[str, object]] = {}
        self.faults: list[str] = []
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.needs_token = False
        self.ranges = True
        self.retry_after = "0"
        self.pace = 0.0
        self.tag = '"one"'
        self.address = ""
        self.location = ""
        self.most_at_once = 0
        self.at_once = 0
        self.lock = threading.Lock()
        self.released = threading.Event()

    def publish(self, model: str, tag: str, content: bytes, **layers: bytes) -> str:
        """Publish a model on the registry and the hub; return the digest of its weights."""
        digest = self._keep(content)
        found = [self._layer("model", content)]
        found += [self._layer(role, text) for role, text in layers.items()]
        config = json.dumps({"model_format": "gguf", "model_family": "llama"}).encode()
        self.answers[f"/v2/library/{model}/manifests/{tag}"] = {
            "schemaVersion": 2,
            "config": self._layer("config", config),
            "layers": found,
        }
        listed = self.listings.setdefault(model, {})
        listed[f"{model}-{tag}.gguf"] = {"oid": digest, "size": len(content)}
        self.answers[f"/api/models/org/{model}/tree/main?recursive=true"] = [
            {"type": "file", "path": path, "lfs": lfs} for path, lfs in listed.items()
        ]
        self.files[f"/org/{model}/resolve/main/{model}-{tag}.gguf"] = content
        return digest

    def _keep(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self.files[digest] = content
        return digest

    def _layer(self, role: str, content: bytes) -> dict[str, object]:
        return {
            "mediaType": f"application/vnd.ollama.image.{role}",
            "digest": f"sha256:{self._keep(content)}",
            "size": len(content),
        }

    def parts_asked(self) -> list[str | None]:
        """Return the Range headers of the requests that had one."""
        return [wanted for path, wanted, _token in self.asked if wanted is not None]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub, token = self.hub, self.headers["Authorization"]
        with hub.lock:
            hub.asked.append((self.path, self.headers["Range"], token))
        if self.path.startswith("/token"):
            self._json({"token": "given"})
        elif hub.needs_token and self.path.startswith("/v2/") and token != "Bearer given":
            realm = f'Bearer realm="{hub.address}/token",service="hub",scope="pull"'
            self._json({}, 401, {"WWW-Authenticate": realm})
        elif self.path in hub.answers:
            self._json(hub.answers[self.path])
        elif self.path.startswith("/org/") and self.path in hub.files:
            # Like the real hub, redirect to another place for the content.
            digest = hashlib.sha256(hub.files[self.path]).hexdigest()
            self._redirect(hub.location or f"{hub.address}/cdn/{digest}")
        elif (
            content := hub.files.get(self.path.rpartition("/")[2].removeprefix("sha256:"))
        ) is None:
            self._json({}, 404)
        else:
            with hub.lock:
                hub.at_once += 1
                hub.most_at_once = max(hub.most_at_once, hub.at_once)
                fault = hub.faults.pop(0) if hub.faults and len(content) > 4096 else ""
            try:
                self._bytes(content, fault)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with hub.lock:
                    hub.at_once -= 1

    def _bytes(self, content: bytes, fault: str) -> None:
        hub, size = self.hub, len(content)
        start, end = 0, size
        wanted = self.headers["Range"]
        condition = self.headers["If-Range"]
        if wanted and hub.ranges and fault != "whole" and condition in {None, hub.tag}:
            first, _dash, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else size
        if fault == "busy":
            self._json({}, 429, {"Retry-After": hub.retry_after})
            return
        if fault == "expired":
            self._json({}, 403)
            return
        part = bool(wanted) and hub.ranges and fault != "whole" and condition in {None, hub.tag}
        data = content[start:end]
        if fault == "wrong_content":
            data = b"x" * len(data)
        if fault == "longer" and not part:
            data += b"more"
        self.send_response(206 if part else 200)
        if part:
            shift = fault == "wrong_range"
            self.send_header("Content-Range", f"bytes {start + shift}-{end - 1}/{size}")
        if fault != "longer":
            self.send_header("Content-Length", str(len(data)))
        else:
            self.close_connection = True
        self.send_header("ETag", hub.tag)
        self.end_headers()
        if fault in {"cut", "stall"}:
            data = data[: len(data) // 2]
            self.close_connection = True
        block = _SLOW_BLOCK if hub.pace else _BLOCK
        for at in range(0, len(data), block):
            self.wfile.write(data[at : at + block])
            if hub.pace and at + block < len(data):
                time.sleep(hub.pace)
        if fault == "stall":
            self.wfile.flush()
            hub.released.wait(60)

    def _json(self, body: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _redirect(self, location: str) -> None:
        self.send_response(302)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()


def names_in(folder: Path) -> set[str]:
    """Return the relative names of all files below, except the lock."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return found - {".lock"}

"""Inputs by which a client could slow others: ``python -m chatsite.bench.hostile_inputs NAME``.

Runs in its own process, like an attacker on another machine. Reads the target as JSON from standard
input, builds the input, prints "ready", and sends it after a second line. Finally prints one line
of JSON with the count of each status. Every input is limited in count and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import os
import socket
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

_SECONDS: Final = 120.0
_LOOP: Final = "{% for m in messages %}{{ m.content }}{% endfor %}"


@dataclass
class Target:
    """A site, and the attacker's key, session, or neither."""

    url: str
    model: str
    key: str
    cookie: str
    seconds: float
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    async def post(self, path: str, body: bytes | dict[str, Any], **headers: str) -> int:
        """Send a request with the attacker's key and count its status; return 0 if none arrived."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            **headers,
        }
        try:
            async with (
                httpx.AsyncClient(timeout=self.seconds, trust_env=False) as client,
                client.stream("POST", self.url + path, content=content, headers=sent) as response,
            ):
                async for _chunk in response.aiter_bytes():
                    pass
                status = response.status_code
        except httpx.HTTPError as error:
            self.statuses[type(error).__name__] += 1
            return 0
        self.statuses[str(status)] += 1
        return status

    async def generate(self, **fields: Any) -> int:
        body = {"model": self.model, "prompt": "hi", "stream": False, **fields}
        body.setdefault("options", {"num_predict": 8})
        return await self.post("/api/generate", body)

    async def chat(self, content: str = "hi", **fields: Any) -> int:
        body = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        return await self.post("/v1/chat/completions", {"max_tokens": 8, **body, **fields})


# Builds its bodies immediately and returns the function that sends them.
Attack = Callable[[Target], Callable[[], Awaitable[object]]]
ATTACKS: Final[dict[str, Attack]] = {}


def attack(name: str) -> Callable[[Attack], Attack]:
    def register(made: Attack) -> Attack:
        ATTACKS[name] = made
        return made

    return register


def _many(*calls: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    async def run() -> None:
        await asyncio.gather(*(call() for call in calls))

    return run


@attack("template of blanks (go)")
def _blank_template(target: Target) -> Callable[[], Awaitable[object]]:
    texts = ("{{" + " " * 5000 + "}}", "{{ .Prompt }}{{" + " " * 5000, "{{ ." + "a." * 5000)
    return _many(*(lambda text=text: target.generate(template=text) for text in texts))


@attack("digits as a duration")
def _long_duration(target: Target) -> Callable[[], Awaitable[object]]:
    texts: tuple[object, ...] = ("1" * 1_000_000, "1h" * 200_000, 1e300)
    return _many(*(lambda text=text: target.generate(keep_alive=text) for text in texts))


@attack("template with huge numbers (jinja)")
def _huge_numbers(target: Target) -> Callable[[], Awaitable[object]]:
    powers = "{% set a=9**64 %}{% set b=a**64 %}{% set c=b**64 %}{% set d=c**64 %}"
    texts = (powers, "{% set x='%2500000000d' % 1 %}", "{{ 'x'|center(999999999) }}")
    return _many(*(lambda text=text: target.generate(template=_LOOP + text) for text in texts))


@attack("16 slow templates (jinja)")
def _slow_templates(target: Target) -> Callable[[], Awaitable[object]]:
    def text(number: int) -> str:
        loops = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"
        return f"{_LOOP}{{# {number} #}}{loops}"

    return _many(*(lambda n=n: target.generate(template=text(n)) for n in range(16)))


@attack("ambiguous grammar")
def _grammar(target: Target) -> Callable[[], Awaitable[object]]:
    ways = " | ".join(["[a-z] e"] * 300)
    grammar = f"root ::= r{{0,90000}}\nr ::= {ways}\ne ::= " + " | ".join(['""'] * 300)
    return _many(*(lambda: target.chat(grammar=grammar) for _ in range(4)))


@attack("enums merged (400 kB)")
def _enums(target: Target) -> Callable[[], Awaitable[object]]:
    numbers = list(range(30_000))
    schema = {"allOf": [{"enum": numbers}, {"enum": numbers[::-1]}]}
    return _many(*(lambda: target.chat(json_schema=schema) for _ in range(2)))


@attack("schemas: properties, depth, patterns")
def _schemas(target: Target) -> Callable[[], Awaitable[object]]:
    deep: dict[str, Any] = {"type": "string"}
    for _level in range(300):
        deep = {"type": "object", "properties": {"a": deep}, "required": ["a"]}
    schemas: tuple[dict[str, Any], ...] = (
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(20_000)}},
        {"enum": [f"value-{n:06}" for n in range(100_000)]},
        {"type": "string", "pattern": "^(([a-z]+)*)*$"},
        {"type": "string", "pattern": "^(a?){999}a{999}$"},
        {"anyOf": [{"type": "object", "properties": {"x": {"const": n}}} for n in range(2000)]},
        deep,
    )
    return _many(*(lambda schema=schema: target.chat(json_schema=schema) for schema in schemas))


@attack("malformed frames on a socket")
def _frames(target: Target) -> Callable[[], Awaitable[object]]:
    async def flood() -> None:
        address = target.url.replace("http", "ws", 1) + "/ws/chat/"
        try:
            async with connect(
                address,
                origin=target.url,  # type: ignore[arg-type]
                additional_headers={"Cookie": target.cookie},
                proxy=None,
            ) as stream:
                for _number in range(100_000):
                    await stream.send("x")
            target.statuses["sent"] += 1
        except (OSError, WebSocketException) as error:
            target.statuses[f"closed {getattr(getattr(error, 'rcvd', None), 'code', '')}"] += 1

    return _many(*(flood for _ in range(4)))


@attack("20 bodies of 31 MB without a key")
def _bodies(target: Target) -> Callable[[], Awaitable[object]]:
    body = b"x" * (31 << 20)
    path = "/v1/chat/completions"
    return _many(*(lambda: target.post(path, body, Authorization="") for _ in range(20)))


@attack("8 bodies of 31 MB with a key")
def _bodies_with_key(target: Target) -> Callable[[], Awaitable[object]]:
    body = b'{"model": "' + b"x" * (31 << 20) + b'"}'
    return _many(*(lambda: target.post("/v1/chat/completions", body) for _ in range(8)))


@attack("23 MB in 45 choices")
def _choices(target: Target) -> Callable[[], Awaitable[object]]:
    text = "word " * (23 << 18)
    return _many(lambda: target.chat(text, n=45))


@attack("nested and huge JSON")
def _json(target: Target) -> Callable[[], Awaitable[object]]:
    path, deep = "/v1/chat/completions", b"[" * 100_000 + b"]" * 100_000
    start = b'{"model": "m", "messages": [], '
    bodies = (
        start + b'"metadata": ' + deep + b"}",
        start + b'"logit_bias": {"' + b"9" * 5000 + b'": 1}}',
        start + b'"seed": ' + b"9" * 100_000 + b"}",
        start + b'"tools": [' + b"{}," * 500_000 + b"{}]}",
    )
    return _many(*(lambda body=body: target.post(path, body) for body in bodies))


@attack("compressed bodies that unpack to 1 GB")
def _compressed(target: Target) -> Callable[[], Awaitable[object]]:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    nested = gzip.compress(packed)
    path = "/v1/chat/completions"
    return _many(
        *(
            lambda body=body, coding=coding: target.post(path, body, **{"Content-Encoding": coding})
            for body, coding in ((packed, "gzip"), (nested, "gzip, gzip"), (packed, "deflate"))
        )
    )


@attack("embeddings of 2,000 texts")
def _embeddings(target: Target) -> Callable[[], Awaitable[object]]:
    texts = ["word " * 200] * 2000
    body = {"model": target.model, "input": texts}
    return _many(lambda: target.post("/v1/embeddings", body))


@attack("1,000 idle connections, 200 slow ones")
def _slow_connections(target: Target) -> Callable[[], Awaitable[object]]:
    async def hold() -> None:
        async with contextlib.AsyncExitStack() as stack:
            slow: list[socket.socket] = []
            for number in range(1200):
                try:
                    held = socket.create_connection(target.address, timeout=2)
                except OSError:
                    target.statuses["refused"] += 1
                    continue
                stack.callback(held.close)
                if number % 6 == 0:
                    held.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
                    slow.append(held)
            for number in range(int(min(target.seconds, 10))):
                await asyncio.sleep(1)
                for held in slow:
                    with contextlib.suppress(OSError):
                        held.send(b"X-%d: 1\r\n" % number)
            target.statuses["held"] += len(slow)

    return hold


@attack("100 sockets of one user")
def _sockets(target: Target) -> Callable[[], Awaitable[object]]:
    address = target.url.replace("http", "ws", 1) + "/ws/chat/"

    async def one() -> None:
        try:
            async with connect(
                address,
                origin=target.url,  # type: ignore[arg-type]
                additional_headers={"Cookie": target.cookie},
                proxy=None,
            ) as stream:
                for number in range(20):
                    await stream.send(json.dumps({"type": "noise", "id": str(number)}))
                    await asyncio.sleep(0.2)
            target.statuses["open"] += 1
        except (OSError, WebSocketException):
            target.statuses["closed"] += 1

    return _many(*(one for _ in range(100)))


@attack("documents that never end")
def _documents(target: Target) -> Callable[[], Awaitable[object]]:
    files = (_wide_table(), _endless_pdf(), _zip_bomb())

    async def attach(client: httpx.AsyncClient, data: bytes) -> None:
        begun = await client.post("/chat/attachments/", json={"name": "x", "size": len(data)})
        if begun.status_code != 201:
            target.statuses[str(begun.status_code)] += 1
            return
        attachment, size = begun.json()["attachment"]["id"], begun.json()["piece_bytes"]
        for number, start in enumerate(range(0, len(data), size)):
            piece = data[start : start + size]
            await client.put(f"/chat/attachments/{attachment}/pieces/{number}/", content=piece)
        read = await client.post(f"/chat/attachments/{attachment}/read/", json={})
        target.statuses[str(read.status_code)] += 1

    async def run() -> None:
        headers = {"Cookie": target.cookie}
        async with httpx.AsyncClient(
            base_url=target.url, headers=headers, timeout=target.seconds, trust_env=False
        ) as client:
            page = await client.get("/accounts/keys/")
            token = next((v for k, v in page.cookies.items() if "csrf" in k), "")
            client.headers["X-CSRFToken"] = token
            client.headers["Cookie"] = "; ".join(
                [target.cookie, *(f"{k}={v}" for k, v in page.cookies.items() if "csrf" in k)]
            )
            client.headers["Referer"] = f"{target.url}/"
            outcomes = await asyncio.gather(
                *(attach(client, data) for data in files * 2), return_exceptions=True
            )
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    target.statuses[type(outcome).__name__] += 1

    return run


def _wide_table() -> bytes:
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    cell = '<w:tc><w:tcPr><w:gridSpan w:val="100000000"/></w:tcPr><w:p/></w:tc>'
    body = f"<w:tbl>{f'<w:tr>{cell}</w:tr>' * 1000}</w:tbl><w:p><w:r><w:t>x</w:t></w:r></w:p>"
    return _docx(f"<w:document {space}><w:body>{body}</w:body></w:document>".encode())


def _zip_bomb() -> bytes:
    return _docx(b"<w:document>" + b" " * (190 << 20) + b"</w:document>")


def _docx(document: bytes) -> bytes:
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    relation = f'<Relationship Id="a" Type="{kind}" Target="word/document.xml"/>'
    space = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
    types = 'xmlns="http://schemas.openxmlformats.org/package/2006/content-types"'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", f"<Types {types}/>")
        archive.writestr("_rels/.rels", f"<Relationships {space}>{relation}</Relationships>")
        archive.writestr("word/document.xml", document)
    return out.getvalue()


def _endless_pdf() -> bytes:
    return (
        b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n"
        b"2 0 obj\n<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2000000000 >>\nendobj\n"
        b"trailer\n<< /Size 3 /Root 1 0 R >>\n%%EOF\n"
    )


@attack("40 questions of one user")
def _questions(target: Target) -> Callable[[], Awaitable[object]]:
    return _many(*(lambda n=n: target.chat(f"({n}) Hello", max_tokens=64) for n in range(40)))


@attack("questions beyond any context")
def _long_questions(target: Target) -> Callable[[], Awaitable[object]]:
    text = "<|im_start|>word " * 100_000
    return _many(*(lambda: target.chat(text) for _ in range(4)))


def _target(line: str) -> Target:
    return Target(**{**json.loads(line), "statuses": Counter()})


async def _run(name: str, target: Target, lines: Iterator[str]) -> None:
    send = ATTACKS[name](target)
    print("ready", flush=True)
    next(lines)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(target.seconds):
            await send()
    print(json.dumps(target.statuses), flush=True)


def main() -> None:
    # A real attacker computes elsewhere, so this must not compete with the site for the CPU.
    os.nice(19)
    lines = iter(sys.stdin)
    target = _target(next(lines))
    target.seconds = min(target.seconds, _SECONDS)
    asyncio.run(_run(sys.argv[1], target, lines))


if __name__ == "__main__":
    main()

"""Asks models one question, sequentially, on any server with OpenAI's chat completions API."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import httpx

_TIMEOUT_SECONDS = 900


@dataclass(frozen=True)
class Target:
    """A model on a server. ``url`` is what precedes ``/chat/completions``."""

    server: str
    url: str
    key: str
    model: str


@dataclass(frozen=True)
class Reply:
    """The result of one question.

    Times are milliseconds from sending to the first text, and to the end. ``tokens`` is the
    server's count, or without one (``counted`` False) the number of pieces received. ``error`` is
    empty on success.
    """

    server: str
    model: str
    ttft_ms: float | None = None
    total_ms: float | None = None
    tokens: int = 0
    counted: bool = False
    answer: str = ""
    error: str = ""

    @property
    def tokens_per_s(self) -> float | None:
        """Return the decode rate: tokens after the first text, since that waits for prefill."""
        if self.ttft_ms is None or self.total_ms is None or self.total_ms <= self.ttft_ms:
            return None
        return (self.tokens - 1) / (self.total_ms - self.ttft_ms) * 1000

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "tokens_per_s": self.tokens_per_s}


def base_of(address: str) -> str:
    """Return the base URL of an endpoint given with or without ``/v1``."""
    address = address.rstrip("/")
    return address if address.rsplit("/", 1)[-1].startswith("v") else f"{address}/v1"


async def ask(place: Target, question: str, *, system: str = "", most: int = 256) -> Reply:
    """Ask a question; errors of the server are returned in the reply, never raised."""
    messages = [{"role": "system", "content": system}] if system else []
    body = {
        "model": place.model,
        "messages": [*messages, {"role": "user", "content": question}],
        "max_tokens": most,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"Authorization": f"Bearer {place.key}"} if place.key else {}
    try:
        async with httpx.AsyncClient(headers=headers, timeout=_TIMEOUT_SECONDS) as client:
            return await _stream(client, place, body)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        reason = str(error) or type(error).__name__
        return Reply(place.server, place.model, error=f"{reason[:300]}")


async def _stream(client: httpx.AsyncClient, place: Target, body: dict[str, Any]) -> Reply:
    began = time.perf_counter()
    first: float | None = None
    pieces: list[str] = []
    counted: int | None = None
    async with client.stream("POST", f"{place.url}/chat/completions", json=body) as response:
        if response.status_code != 200:
            text = (await response.aread()).decode(errors="replace")
            return Reply(place.server, place.model, error=_reason(response.status_code, text))
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk: dict[str, Any] = json.loads(line.removeprefix("data: "))
            if "error" in chunk:
                error = _reason(200, json.dumps(chunk))
                return Reply(place.server, place.model, answer="".join(pieces), error=error)
            counted = (chunk.get("usage") or {}).get("completion_tokens", counted)
            delta = (chunk.get("choices") or [{}])[0].get("delta", {})
            # Reasoning counts as text: it is the first thing a user sees.
            text = delta.get("content") or ""
            if (text or delta.get("reasoning_content")) and first is None:
                first = time.perf_counter()
            if text:
                pieces.append(text)
    return Reply(
        place.server,
        place.model,
        ttft_ms=None if first is None else (first - began) * 1000,
        total_ms=(time.perf_counter() - began) * 1000,
        tokens=len(pieces) if counted is None else counted,
        counted=counted is not None,
        answer="".join(pieces),
        error="" if pieces or first else "no text came",
    )


def _reason(status: int, text: str) -> str:
    try:
        message = json.loads(text)["error"]
        message = message["message"] if isinstance(message, dict) else message
    except (ValueError, KeyError, TypeError):
        message = " ".join(text.split())
    return f"{status}: {str(message)[:300]}" if status != 200 else str(message)[:300]

"""OpenAI's and Ollama's APIs: which keys each call takes."""

from __future__ import annotations

from typing import Any

from chatsite.accounts.roles import Role
from tests.integration.web.strangers.table import Row, api, public

MANAGE: dict[str, Any] = {"scope": "manage", "roles": (Role.MODEL_MANAGER,), "other": 403}
NAME = {"model": "smollm2:135m"}
CHAT = {**NAME, "messages": "not a list"}
COLLECTION = {"id": "collection"}
FILE = {**COLLECTION, "path": "file"}

# The owner's bodies are complete enough to be refused for their content: 400 or 404 rather than
# 401 or 403. What a valid call answers is tested with engines (tests/clients).
ROWS: list[Row] = [
    api("v1/models", "GET", "models"),
    api("v1/collections", "GET", "chat"),
    api("v1/collections", "POST", "knowledge", 400, json={}),
    api("v1/collections/search", "POST", "chat", json={"query": "trains"}),
    # Of another user than those of the keys.
    api("v1/collections/<uuid:id>", "GET", "chat", 404, args=COLLECTION),
    api("v1/collections/<uuid:id>", "PATCH", "knowledge", 404, args=COLLECTION, json={"name": "x"}),
    api("v1/collections/<uuid:id>", "DELETE", "knowledge", 404, args=COLLECTION),
    api("v1/collections/<uuid:id>/documents", "GET", "chat", 404, args=COLLECTION),
    api("v1/collections/<uuid:id>/documents/<path:path>", "GET", "chat", 404, args=FILE),
    api(
        "v1/collections/<uuid:id>/documents/<path:path>", "PUT", "knowledge", 404, args=FILE, json=1
    ),
    api("v1/collections/<uuid:id>/documents/<path:path>", "DELETE", "knowledge", 404, args=FILE),
    api(
        "v1/collections/<uuid:id>/sync",
        *("POST", "knowledge", 404),
        args=COLLECTION,
        json={"manifest": []},
    ),
    api("v1/collections/sync/<uuid:id>/finish", "POST", "knowledge", 404, args={"id": "sync"}),
    api("v1/models/<path:id>", "GET", "models", 404, args={"id": "model_name"}),
    api("v1/chat/completions", "POST", "chat", 400, json=CHAT),
    api("v1/chat/completions/input_tokens", "POST", "chat", 400, json=CHAT),
    api("v1/completions", "POST", "chat", 400, json={}),
    api("v1/embeddings", "POST", "embed", 400, json={}),
    api("v1/rerank", "POST", "embed", 400, json={}),
    api("v1/reranking", "POST", "embed", 400, json={}),
    api("v1/responses", "POST", "chat", 400, json={}),
    api("v1/responses/input_tokens", "POST", "chat", 400, json={}),
    api("v1/tokenize", "POST", "chat", 400, json={}),
    api("v1/detokenize", "POST", "chat", 400, json={}),
    public("v1/openapi.json"),
    public("v1/docs"),
    public("v1", status=404),
    public("v1/", status=404),
    public("api", status=404),
    public("api/", status=404),
    api("api/version", "GET", "models"),
    api("api/tags", "GET", "models"),
    api("api/ps", "GET", "models", 503),
    api("api/show", "POST", "models", 404, json=NAME),
    api("api/generate", "POST", "chat", 404, json={}),
    api("api/chat", "POST", "chat", 400, json={}),
    api("api/embed", "POST", "embed", 404, json={}),
    api("api/embeddings", "POST", "embed", 404, json={}),
    api("api/create", "POST", status=404, **MANAGE, json={"model": "x", "from": "missing"}),
    api("api/copy", "POST", status=404, **MANAGE, json={"source": "missing", "destination": "x"}),
    api("api/delete", "DELETE", status=404, **MANAGE, json={"model": "missing"}),
    api("api/pull", "POST", status=400, **MANAGE, json={"model": "ftp://x"}),
    api("api/push", "POST", "manage", 501, json={"model": "x"}),
    api("api/blobs/<str:digest>", "HEAD", status=404, **MANAGE, args={"digest": "digest"}),
]

FACTS = {
    "file": lambda world: "folder/a.md",
    "model_name": lambda world: "smollm2:135m",
    "digest": lambda world: f"sha256:{'0' * 64}",
}

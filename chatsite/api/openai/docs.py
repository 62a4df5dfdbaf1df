"""`/v1/openapi.json`, and an HTML page of it. Both come from the types that decode requests.

The page is rendered on the server, without scripts, so it works offline and under the site's
content security policy.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from chatsite.api.core import foreign, http
from chatsite.api.openai import collections as c
from chatsite.api.openai import documents as d
from chatsite.api.openai import rerank, tokens
from chatsite.api.openai import responses_types as r
from chatsite.api.openai import types as t
from chatsite.knowledge import schema as k
from chatsite.site_settings import current

# Path, method, scope, request, response, whether it streams, summary.
_ENDPOINTS: tuple[tuple[str, str, str, type | None, type, bool, str], ...] = (
    ("/v1/models", "get", "models", None, t.Models, False, "List the available models."),
    ("/v1/models/{id}", "get", "models", None, t.Model, False, "One model."),
    (
        *("/v1/chat/completions", "post", "chat", t.ChatRequest, t.ChatCompletion, True),
        "The answer to a conversation.",
    ),
    (
        *(
            "/v1/chat/completions/input_tokens",
            "post",
            "chat",
            t.ChatRequest,
            tokens.InputTokens,
            False,
        ),
        "Count the prompt tokens of a request without generating.",
    ),
    (
        *(
            "/v1/responses/input_tokens",
            "post",
            "chat",
            r.ResponseRequest,
            tokens.InputTokens,
            False,
        ),
        "Count the prompt tokens of a request without generating.",
    ),
    (
        *("/v1/tokenize", "post", "chat", tokens.TokenizeRequest, tokens.Tokens, False),
        "The tokens of a text or a conversation. Also at /tokenize.",
    ),
    (
        *("/v1/detokenize", "post", "chat", tokens.DetokenizeRequest, tokens.Text, False),
        "The text of tokens. Also at /detokenize.",
    ),
    (
        *("/v1/completions", "post", "chat", t.CompletionRequest, t.Completion, True),
        "The continuation of a text, without a chat template.",
    ),
    (
        *("/v1/embeddings", "post", "embed", t.EmbeddingRequest, t.Embeddings, False),
        "Embeddings of texts.",
    ),
    (
        *("/v1/collections", "get", "chat", None, c.Collections, False),
        "List the collections of documents that the user may read.",
    ),
    (
        *("/v1/collections", "post", "knowledge", k.NewCollection, k.Collection, False),
        "Create a collection.",
    ),
    ("/v1/collections/{id}", "get", "chat", None, k.Collection, False, "One collection."),
    (
        *("/v1/collections/{id}", "patch", "knowledge", k.CollectionChange, k.Collection, False),
        "Rename or describe a collection.",
    ),
    (
        *("/v1/collections/{id}", "delete", "knowledge", None, c.Deleted, False),
        "Delete a collection with its documents.",
    ),
    (
        *("/v1/collections/{id}/documents", "get", "chat", None, d.Documents, False),
        "List the documents of a collection by path; `after` continues the list.",
    ),
    (
        *("/v1/collections/{id}/documents/{path}", "get", "chat", None, k.Document, False),
        "One document; `state` tells whether it has been read.",
    ),
    (
        *("/v1/collections/{id}/documents/{path}", "put", "knowledge", None, k.Document, False),
        "Store the body, a file, as the document at this path.",
    ),
    (
        *("/v1/collections/{id}/documents/{path}", "delete", "knowledge", None, c.Deleted, False),
        "Delete a document.",
    ),
    (
        *("/v1/collections/{id}/sync", "post", "knowledge", k.Manifest, k.SyncPlan, False),
        "Compare a collection with the paths and SHA-256 of files; nothing is changed yet.",
    ),
    (
        *("/v1/collections/sync/{id}/finish", "post", "knowledge", None, d.Finished, False),
        "Delete what the manifest does not have, once all that differs has been stored.",
    ),
    (
        *("/v1/collections/search", "post", "chat", k.Question, c.SearchResult, False),
        "The passages of collections that match a question.",
    ),
    (
        *("/v1/rerank", "post", "embed", rerank.RerankRequest, rerank.Reranked, False),
        "Texts sorted by their relevance to a query. Also at /rerank and /v1/reranking.",
    ),
    (
        *("/v1/responses", "post", "chat", r.ResponseRequest, r.Response, True),
        "The answer to a conversation, in the form of the Responses API. Nothing is stored.",
    ),
)
_REFUSALS = {
    "400": "What is wrong in the request; `param` names the field.",
    "401": "The key is missing, invalid, revoked or expired.",
    "403": "The key lacks the scope.",
    "404": "The model is not installed.",
    "413": "The request is too large.",
    "429": "Too many open requests of one user; see Retry-After.",
    "500": "The model failed.",
    "503": "The queue is full, or the model could not be started; see Retry-After.",
}


def schema() -> dict[str, Any]:
    """Return the OpenAPI description under the site's current name."""
    return _schema(current().site_name)


@lru_cache(maxsize=1)
def _schema(name: str) -> dict[str, Any]:
    types = [kind for entry in _ENDPOINTS for kind in entry[3:5] if kind is not None]
    _refs, components = msgspec.json.schema_components(
        [*types, t.Error], ref_template="#/components/schemas/{name}"
    )
    for component in components.values():
        foreign.hide_refused(component.get("properties", {}))
    paths: dict[str, Any] = {}
    for path, method, scope, request, response, streams, summary in _ENDPOINTS:
        content = {"application/json": {"schema": _ref(response)}}
        if streams:
            content["text/event-stream"] = {}
        operation: dict[str, Any] = {
            "summary": summary,
            "description": f"Needs a key with the scope `{scope}`.",
            "operationId": _operation(method, path),
            "responses": {
                "200": {"description": "The answer.", "content": content},
                **{code: _refusal(text) for code, text in _REFUSALS.items()},
            },
        }
        if request is not None:
            operation["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": _ref(request)}},
            }
        elif method == "put":
            file = {"application/octet-stream": {"schema": {"type": "string", "minLength": 1}}}
            operation["requestBody"] = {"required": True, "content": file}
        operation["parameters"] = [_parameter(name) for name in re.findall(r"{(\w+)}", path)]
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": "1"},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(method: str, path: str) -> str:
    """Return a name for an operation; the method tells apart those of one path."""
    name = re.sub(r"[{}]", "", path.removeprefix("/v1/")).replace("/", "_")
    return name if method in {"get", "post"} and "{" not in path else f"{name}_{method}"


def _parameter(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    }


def _ref(kind: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": _ref(t.Error)}}}


@csrf_exempt
@require_safe
async def openapi(request: HttpRequest) -> HttpResponse:
    return http.answer(schema())


@require_safe
async def page(request: HttpRequest) -> HttpResponse:
    return render(request, "api/docs.html", {"endpoints": _rows(), "refusals": _REFUSALS})


@cache
def _rows() -> list[dict[str, Any]]:
    rows = []
    for path, method, scope, request, response, streams, summary in _ENDPOINTS:
        rows.append(
            {
                "path": path,
                "method": method.upper(),
                "scope": scope,
                "summary": summary,
                "streams": streams,
                "fields": _fields(request) if request else [],
                "answer": _fields(response),
            }
        )
    return rows


def _fields(kind: type) -> list[dict[str, Any]]:
    described = schema()["components"]["schemas"][kind.__name__]
    required = described.get("required", ())
    return [
        {"name": name, "type": _type(of), "required": name in required}
        for name, of in described["properties"].items()
    ]


def _type(of: dict[str, Any]) -> str:
    """Return a short notation of a JSON schema."""
    if "anyOf" in of:
        return " | ".join(_type(one) for one in of["anyOf"] if one.get("type") != "null")
    if "$ref" in of:
        return str(of["$ref"]).rpartition("/")[2]
    if "enum" in of:
        return " | ".join(repr(one) for one in of["enum"])
    if of.get("type") == "array":
        return f"[{_type(of.get('items', {}))}]"
    bounds = [str(of[key]) for key in ("minimum", "maximum") if key in of]
    text = str(of.get("type", "any"))
    return f"{text} {' to '.join(bounds)}" if len(bounds) == 2 else text

"""URLs of OpenAI's API, below `/v1/`."""

from django.urls import path, re_path

from chatsite.api.core import http
from chatsite.api.openai import (
    chat,
    collections,
    completions,
    docs,
    documents,
    embeddings,
    models,
    rerank,
    responses,
    tokens,
)

urlpatterns = [
    path("models", models.models),
    # Model names may contain slashes.
    path("models/<path:id>", models.model),
    path("chat/completions", chat.completions),
    path("chat/completions/input_tokens", tokens.chat_input_tokens),
    path("completions", completions.completions),
    path("embeddings", embeddings.embeddings),
    path("collections", collections.every),
    path("collections/search", collections.search),
    path("collections/sync/<uuid:id>/finish", documents.finish_sync),
    path("collections/<uuid:id>", collections.one),
    path("collections/<uuid:id>/sync", documents.begin_sync),
    path("collections/<uuid:id>/documents", documents.listed),
    path("collections/<uuid:id>/documents/<path:path>", documents.one),
    path("rerank", rerank.rerank),
    # llama-server's other name.
    path("reranking", rerank.rerank),
    path("responses", responses.responses),
    path("responses/input_tokens", tokens.response_input_tokens),
    path("tokenize", tokens.tokenize),
    path("detokenize", tokens.detokenize),
    path("openapi.json", docs.openapi, name="openapi"),
    path("docs", docs.page, name="api_docs"),
    re_path("", http.nothing),
]

"""OpenAI's addresses, below `/v1/`."""

from django.urls import path, re_path

from chatsite.api import chat, completions, docs, embeddings, http, models, responses

urlpatterns = [
    path("models", models.models),
    # A model's name may have slashes.
    path("models/<path:id>", models.model),
    path("chat/completions", chat.completions),
    path("completions", completions.completions),
    path("embeddings", embeddings.embeddings),
    path("responses", responses.responses),
    path("openapi.json", docs.openapi, name="openapi"),
    path("docs", docs.page, name="api_docs"),
    re_path("", http.nothing),
]

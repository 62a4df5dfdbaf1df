"""Ollama's addresses, below `/api/`."""

from django.urls import path, re_path

from chatsite.api import ollama, ollama_generate, ollama_models

urlpatterns = [
    path("version", ollama_models.version),
    path("tags", ollama_models.tags),
    path("ps", ollama_models.running),
    path("show", ollama_models.show),
    path("create", ollama_models.create),
    path("copy", ollama_models.copy),
    path("delete", ollama_models.delete),
    path("generate", ollama_generate.generate),
    path("chat", ollama_generate.chat),
    path("embed", ollama_generate.embed),
    path("embeddings", ollama_generate.embeddings),
    re_path("^(?:pull|push|blobs/.*)$", ollama_models.not_here),
    re_path("", ollama.nothing),
]

"""Ollama's addresses, below `/api/`."""

from django.urls import path, re_path

from chatsite.api import (
    ollama,
    ollama_blobs,
    ollama_create,
    ollama_generate,
    ollama_models,
    ollama_pull,
)

urlpatterns = [
    path("version", ollama_models.version),
    path("tags", ollama_models.tags),
    path("ps", ollama_models.running),
    path("show", ollama_models.show),
    path("create", ollama_create.create),
    path("copy", ollama_models.copy),
    path("delete", ollama_models.delete),
    path("generate", ollama_generate.generate),
    path("chat", ollama_generate.chat),
    path("embed", ollama_generate.embed),
    path("embeddings", ollama_generate.embeddings),
    path("pull", ollama_pull.pull),
    path("push", ollama_pull.push),
    path("blobs/<str:digest>", ollama_blobs.blob),
    re_path("", ollama.nothing),
]

"""URLs of Ollama's API, below `/api/`."""

from django.urls import path, re_path

from chatsite.api.ollama import blobs, common, create, generate, models, pull

urlpatterns = [
    path("version", models.version),
    path("tags", models.tags),
    path("ps", models.running),
    path("show", models.show),
    path("create", create.create),
    path("copy", models.copy),
    path("delete", models.delete),
    path("generate", generate.generate),
    path("chat", generate.chat),
    path("embed", generate.embed),
    path("embeddings", generate.embeddings),
    path("pull", pull.pull),
    path("push", pull.push),
    path("blobs/<str:digest>", blobs.blob),
    re_path("", common.nothing),
]

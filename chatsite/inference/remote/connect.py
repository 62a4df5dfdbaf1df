"""The client for each kind of engine."""

from __future__ import annotations

from typing import Final

from chatsite.inference.remote.contract import Client, Egress, Kind, Server
from chatsite.inference.remote.llama_server import LlamaServer
from chatsite.inference.remote.ollama import Ollama
from chatsite.inference.remote.openai_compatible import OpenAICompatible
from chatsite.inference.remote.transport import Wire
from chatsite.inference.remote.vllm import VLLM

_CLIENTS: Final[dict[Kind, type[OpenAICompatible | Ollama]]] = {
    Kind.VLLM: VLLM,
    Kind.LLAMA_SERVER: LlamaServer,
    Kind.OLLAMA: Ollama,
    Kind.OPENAI: OpenAICompatible,
}


def connect(server: Server, *, egress: Egress, wire: Wire | None = None) -> Client:
    """Return a client of ``server``. Nothing is sent before its first call.

    ``wire`` replaces the connections, for tests.
    """
    return _CLIENTS[server.kind](server, egress, wire)

"""Clients of remote inference engines: vLLM, llama-server, Ollama, OpenAI-compatible servers."""

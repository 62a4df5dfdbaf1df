import pytest

from models_admin import names
from models_admin.engines.naming import catalogue_name, digest_of


@pytest.mark.parametrize(
    ("remote", "name"),
    [
        ("qwen3:8b", "qwen3:8b"),
        ("llama3", "llama3:latest"),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct:latest"),
        ("/models/qwen3/Qwen3-8B-Q4.gguf", "Qwen3-8B-Q4.gguf:latest"),
        ("a/b/c/d/model", "d/model:latest"),
        ("accounts/fireworks/models/llama-v3", "models/llama-v3:latest"),
        ("gpt 4 (new)", "gpt-4-new-:latest"),
        ("模型", "model:latest"),
        ("x" * 300, f"{'x' * 80}:latest"),
    ],
)
def test_any_remote_name_becomes_a_valid_one(remote, name):
    assert catalogue_name(remote) == name
    assert names.normalise(name) == name


def test_the_engine_becomes_the_namespace():
    assert catalogue_name("meta-llama/Llama-3:8b", namespace="gpu1") == "gpu1/Llama-3:8b"
    assert catalogue_name("llama3", namespace="gpu1") == "gpu1/llama3:latest"


def test_a_digest_stands_for_a_remote_name():
    assert digest_of("a") == digest_of("a") != digest_of("b")
    assert len(digest_of("a")) == 64

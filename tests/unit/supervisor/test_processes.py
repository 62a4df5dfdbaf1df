from __future__ import annotations

from pathlib import Path

import pytest

from chatsite.env import Environment
from chatsite.supervisor.processes import ProcessSpec, product
from chatsite.supervisor.redis_binary import RedisBinary


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(data_dir=tmp_path, redis_url="", port=8123, max_message_chars=1000)


def specs(environment: Environment) -> dict[str, ProcessSpec]:
    redis = RedisBinary("/usr/bin/redis-server", (7, 0, 15))
    return {spec.name: spec for spec in product(environment, redis)}


def options(spec: ProcessSpec) -> dict[str, str]:
    words = spec.command
    return {
        word: words[index + 1]
        for index, word in enumerate(words[:-1])
        if word.startswith("-") and not words[index + 1].startswith("--")
    }


def test_redis_listens_on_its_socket_alone_and_forgets_nothing(environment: Environment) -> None:
    redis = options(specs(environment)["redis"])
    assert redis["--port"] == "0"
    assert redis["--unixsocket"] == str(environment.redis_socket)
    assert redis["--appendonly"] == "yes"
    assert redis["--appendfsync"] == "everysec"
    assert redis["--maxmemory-policy"] == "noeviction"


def test_no_redis_of_our_own_when_one_is_given(environment: Environment) -> None:
    assert [spec.name for spec in product(environment, None)] == ["inference", "celery", "daphne"]


def test_daphne_takes_the_longest_message_and_no_more(environment: Environment) -> None:
    daphne = options(specs(environment)["daphne"])
    assert daphne["--websocket-max-message-size"] == str(4 * 1000 + 4096)
    assert (daphne["-b"], daphne["-p"]) == ("127.0.0.1", "8123")


def test_each_is_recognisable_in_ps(environment: Environment) -> None:
    lines = {name: " ".join(spec.command) for name, spec in specs(environment).items()}
    assert "redis-server" in lines["redis"]
    assert " -m chatsite.daphne " in lines["daphne"]
    assert " -m celery " in lines["celery"]
    assert lines["inference"].endswith("manage.py inference")


def test_ending_takes_less_than_ten_seconds_and_redis_is_last(environment: Environment) -> None:
    stages: dict[int, float] = {}
    for spec in specs(environment).values():
        stages[spec.stage] = max(stages.get(spec.stage, 0), spec.stop_seconds)
    assert sum(stages.values()) <= 8.5
    order = sorted(specs(environment).values(), key=lambda spec: -spec.stage)
    assert [spec.name for spec in order] == ["daphne", "inference", "celery", "redis"]

from __future__ import annotations

from pathlib import Path

import pytest

from chatsite.env import Environment
from chatsite.supervisor import processes
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


def test_house_6_valkey_reads_what_newer_redis_wrote(environment: Environment) -> None:
    for binary, expected in (
        (RedisBinary("/opt/valkey-server", (9, 1, 2), is_valkey=True), "relaxed"),
        (RedisBinary("/opt/valkey-server", (8, 0, 1), is_valkey=True), None),
        (RedisBinary("/opt/redis-server", (9, 0, 0)), None),
    ):
        spec = product(environment, binary)[0]
        assert options(spec).get("--rdb-version-check") == expected


def test_m5_redis_has_a_limit_that_fits_the_machine(tmp_path: Path) -> None:
    assert [processes.redis_mb_for(gib << 30) for gib in (1, 8, 32, 1024)] == [256, 512, 2048, 4096]
    given = Environment(data_dir=tmp_path, redis_url="", redis_mb=300)
    assert options(specs(given)["redis"])["--maxmemory"] == "300mb"
    unset = Environment(data_dir=tmp_path, redis_url="")
    assert int(options(specs(unset)["redis"])["--maxmemory"].removesuffix("mb")) >= 256


def test_no_redis_is_started_when_one_is_given(environment: Environment) -> None:
    assert [spec.name for spec in product(environment, None)] == ["inference", "celery", "daphne"]


def test_parts_run_apart(environment: Environment) -> None:
    redis = RedisBinary("/usr/bin/redis-server", (7, 0, 15))

    def names(*parts: str) -> list[str]:
        return [spec.name for spec in product(environment, redis, parts)]

    assert names("redis") == ["redis"]
    assert names("web", "worker") == ["celery", "daphne"]
    assert names("inference") == ["inference"]


def test_daphne_takes_the_longest_message_and_no_more(environment: Environment) -> None:
    daphne = options(specs(environment)["daphne"])
    assert daphne["--websocket-max-message-size"] == str(4 * 1000 + 4096)
    assert (daphne["-b"], daphne["-p"]) == ("127.0.0.1", "8123")


def test_sockets_stay_open_while_their_clients_answer_pings(environment: Environment) -> None:
    daphne = options(specs(environment)["daphne"])
    assert daphne["--websocket_timeout"] == "-1"
    # More often than proxies close an idle connection (60 s), and once more before the timeout.
    assert 0 < int(daphne["--ping-interval"]) < int(daphne["--ping-timeout"]) < 60


def test_each_is_recognisable_in_ps(environment: Environment) -> None:
    lines = {name: " ".join(spec.command) for name, spec in specs(environment).items()}
    assert "redis-server" in lines["redis"]
    assert " -m chatsite.web.daphne " in lines["daphne"]
    assert " -m celery " in lines["celery"]
    assert lines["inference"].endswith("manage.py inference")


def test_ending_takes_less_than_ten_seconds_and_redis_is_last(environment: Environment) -> None:
    stages: dict[int, float] = {}
    for spec in specs(environment).values():
        stages[spec.stage] = max(stages.get(spec.stage, 0), spec.stop_seconds)
    assert sum(stages.values()) <= 8.5
    order = sorted(specs(environment).values(), key=lambda spec: -spec.stage)
    assert [spec.name for spec in order] == ["daphne", "inference", "celery", "redis"]


def test_m6_redis_alone_is_trusted_with_no_secret(environment: Environment) -> None:
    assert [name for name, spec in specs(environment).items() if not spec.trusted] == ["redis"]

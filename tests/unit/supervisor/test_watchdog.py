"""When a process counts as hanging, without a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatsite.supervisor import heartbeat
from chatsite.supervisor.watchdog import Asking, Beating, Silence


def silent(silence: Silence, *signs: bool | None, elapsed: float = 1.0) -> list[bool]:
    return [silence.observe(sign, elapsed) for sign in signs]


def test_m8_silence_adds_up_to_the_limit_and_any_sign_ends_it() -> None:
    assert silent(Silence(3), True, False, False, False, False)[-2:] == [False, True]
    assert not any(silent(Silence(3), *(True, False, False, False) * 10))


def test_m8_a_start_may_take_three_times_as_long() -> None:
    assert silent(Silence(3), *(False,) * 10) == [False] * 9 + [True]


def test_m8_time_that_the_supervisor_did_not_have_does_not_count() -> None:
    silence = Silence(3, seen=True)
    assert not silence.observe(False, 3600.0)
    assert silence.seconds <= 2


def test_m8_a_process_that_needs_an_absent_server_is_not_blamed() -> None:
    assert not any(silent(Silence(3), True, *(None,) * 100))
    assert not any(silent(Silence(3), True, *(False, False, None) * 10))


async def test_m8_a_slow_answer_is_a_sign_and_no_second_question_is_put_meanwhile() -> None:
    asked, answer = [], asyncio.Event()

    async def question() -> bool:
        asked.append(1)
        await answer.wait()
        return True

    asking = Asking(question)
    assert [await asking.sign() for _ in range(5)] == [False] * 5
    answer.set()
    await asyncio.sleep(0)
    assert await asking.sign()
    assert len(asked) == 1
    asking.close()


async def test_m8_a_refused_or_failed_question_is_no_sign_and_is_put_again() -> None:
    results: Iterator[bool | OSError] = iter([False, OSError("odd"), True])

    async def question() -> bool:
        result = next(results)
        if isinstance(result, OSError):
            raise result
        return bool(result)

    asking = Asking(question)
    assert [await asking.sign() for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(("redis", "expected"), [(True, False), (False, None)])
async def test_m8_all_heartbeats_must_come(
    tmp_path: Path, redis: bool, expected: bool | None
) -> None:
    (tmp_path / "run").mkdir()
    heartbeat.prepare(tmp_path)

    async def answers() -> bool:
        return redis

    beating = Beating(tmp_path, {"celery": 60, "beat": 60}, answers)
    assert await beating.sign() is expected  # a heartbeat of an earlier process does not count
    heartbeat.path(tmp_path, "celery").write_text("x")
    assert await beating.sign() is expected
    heartbeat.path(tmp_path, "beat").write_text("x")
    assert await beating.sign() is True


def test_m8_a_heartbeat_needs_no_file(tmp_path: Path) -> None:
    heartbeat.beat(tmp_path, "celery")
    assert heartbeat.read(tmp_path, "celery") == 0

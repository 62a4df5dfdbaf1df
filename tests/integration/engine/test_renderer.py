"""The processes that render chat templates: a hostile template exhausts only its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from chatsite.engine.contract.messages import ChatMessage, Failed, Finished, PromptOptions
from chatsite.engine.prompting import renderer
from chatsite.engine.prompting.jinja import Refused, TemplateError
from chatsite.engine.prompting.renderer import RendererGone, RenderPool
from chatsite.engine.prompting.template import ChatTemplate
from tests.support.children import answer, ask

HONEST = "{% for m in messages %}{{ m.content }}{% endfor %}"
MESSAGES = {"messages": [{"role": "user", "content": "Hello"}]}
USER = ChatMessage("user", "Hello")
MOST = 10_000

# Each would take minutes or gigabytes, in one operation or in legal loops.
HUNGRY = [
    "{% set a = 9**64 %}{% set b = a**64 %}{% set c = b**64 %}{% set d = c**64 %}{{ d > 1 }}",
    "{% set x = '%2500000000d' % 1 %}",
    "{% set x = ['%900000000s'] | map('format', 1) | list %}",
    "{% set x = ['x'] | batch(900000000, 'y') | list %}",
    (
        "{% set x = 'a,' | wordwrap(1, wrapstring='b' * 99999) %}"
        "{% for i in range(40) %}{% set x = x.replace('b', 'bb') %}{% endfor %}"
    ),
    (
        "{% set n = namespace(x='xxxxxxxx') %}"
        "{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
    ),
    (
        "{% set n = namespace(x='xxxxxxxx') %}"
        "{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}"
    ),
    (
        "{% set n = namespace(x=[1, 2]) %}"
        "{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}"
    ),
    "{% set x = 'x' | indent(999999999) %}{% set y = 'a\nb' | indent(2000000000) %}",
    "{% set x = '{:>2000000000}'.format(1) %}",
    (
        "{% set x = 'x'.join(range(99999) | map('string')) %}"
        "{% for i in range(30) %}{% set x = x.join([x, x, x]) %}{% endfor %}"
    ),
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    (
        "{% set x = (range(99999) | list | sort) %}"
        "{% for i in range(99999) %}{% set x = x | sort | unique | list %}{% endfor %}"
    ),
]


@pytest.fixture
def pool() -> Iterator[RenderPool]:
    with RenderPool.start("test") as pool:
        yield pool


def workers(pool: RenderPool) -> list[psutil.Process]:
    return psutil.Process(pool.pid).children()


@pytest.mark.parametrize("attack", HUNGRY)
def test_h3_a_hungry_template_is_ended_and_the_next_one_renders(
    pool: RenderPool, attack: str
) -> None:
    before = psutil.Process().memory_info().rss
    with suppress(TemplateError):  # or it was cheap after all
        assert pool.render(attack + HONEST, MESSAGES, MOST).endswith("Hello")
    assert pool.render(HONEST, MESSAGES, MOST) == "Hello"
    assert psutil.Process().memory_info().rss - before < 100 << 20


def test_h3_a_hungry_template_costs_the_engine_nothing(pool: RenderPool) -> None:
    """While one thread waits for an endless template, those of another are rendered."""
    ended: list[str] = []

    def hostile() -> None:
        try:
            pool.render(HUNGRY[0], MESSAGES, MOST)
        except TemplateError as error:
            ended.append(str(error))

    pool.render(HONEST, MESSAGES, MOST)
    thread = threading.Thread(target=hostile)
    thread.start()
    for _ in range(5):
        assert pool.render(HONEST, MESSAGES, MOST) == "Hello"
    assert thread.is_alive()
    assert not ended
    thread.join()
    assert "took more than 2 s" in ended[0]


def test_a_worker_serves_one_template_again_and_again(pool: RenderPool) -> None:
    for number in range(5):
        said = {"messages": [{"role": "user", "content": str(number)}]}
        assert pool.render(HONEST, said, MOST) == str(number)
    [one] = workers(pool)
    assert pool.render(HONEST + "!", MESSAGES, MOST) == "Hello!"
    assert len(workers(pool)) == 2
    assert pool.render(HONEST, MESSAGES, MOST) == "Hello"
    assert one in workers(pool)


def test_few_idle_workers_are_kept(pool: RenderPool) -> None:
    for number in range(12):
        pool.render(HONEST + str(number), MESSAGES, MOST)
    assert len([one for one in workers(pool) if one.is_running()]) <= renderer.KEPT + 1


def test_a_worker_of_a_large_request_is_not_kept(pool: RenderPool) -> None:
    text = "x" * (renderer.LARGE + 1)
    assert pool.render("{{ text | length }}", {"text": text}, MOST) == str(len(text))
    psutil.wait_procs(workers(pool), timeout=60)
    assert workers(pool) == []


def test_a_worker_that_ended_while_idle_is_replaced(pool: RenderPool) -> None:
    pool.render(HONEST, MESSAGES, MOST)
    [worker] = workers(pool)
    worker.kill()
    psutil.wait_procs([worker])
    assert pool.render(HONEST, MESSAGES, MOST) == "Hello"


def test_a_dead_renderer_is_a_distinct_error(pool: RenderPool) -> None:
    pool.render(HONEST, MESSAGES, MOST)
    renderer = psutil.Process(pool.pid)
    renderer.kill()
    renderer.wait()
    with pytest.raises(RendererGone):
        pool.render(HONEST + "?", MESSAGES, MOST)


def test_refusals_and_failures_of_a_template_are_distinguished(pool: RenderPool) -> None:
    with pytest.raises(Refused, match="not today"):
        pool.render("{{ raise_exception('not today') }}", MESSAGES, MOST)
    with pytest.raises(TemplateError, match="does not compile") as caught:
        pool.render("{% for %}", MESSAGES, MOST)
    assert not isinstance(caught.value, Refused)
    with pytest.raises(TemplateError, match="renders more than 3 characters"):
        pool.render(HONEST, MESSAGES, 3)


def test_large_and_odd_texts_go_through(pool: RenderPool) -> None:
    text = "größe 字 😀 \x00" * 400_000
    said = {"messages": [{"role": "user", "content": text}], "more": [1.5, None, {"a": [True]}]}
    assert pool.render(HONEST, said, len(text)) == text
    assert pool.render("{{ '\\ud800' }}", said, 10) == "?"


def test_a_chat_template_uses_it(pool: RenderPool) -> None:
    template = ChatTemplate(HONEST, renderer=pool)
    assert template.source == "gguf"
    assert template.render([USER]) == "Hello"
    hostile = ChatTemplate(HUNGRY[1] + HONEST, renderer=pool)
    assert hostile.source == "fallback"
    assert hostile.render([USER]).startswith("<|im_start|>user\nHello")


def test_probes_of_a_hostile_template_end_with_the_first_that_takes_too_long(
    pool: RenderPool,
) -> None:
    slow = "{% if messages[0].role == 'system' %}" + HUNGRY[-3] + "{% endif %}"
    template = ChatTemplate(slow + HONEST, renderer=pool)
    assert "took more than" in template.problem
    assert template.source == "fallback"


async def test_h3_an_engine_serves_other_requests_while_a_hostile_template_is_refused(
    client,
) -> None:
    engine = psutil.Process(client.pid)
    hostile = PromptOptions(template=HUNGRY[1] + HONEST)
    await client.send(ask("h", "hi", owner="eve", options=hostile))
    _, end = await answer(client, "h")
    assert isinstance(end, Failed)
    assert end.code == "request_refused"
    await client.send(ask("g", "hello there"))
    text, end = await answer(client, "g")
    assert text == "hello there"
    assert isinstance(end, Finished)
    status = Path(f"/proc/{client.pid}/status").read_text()  # noqa: ASYNC240
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    assert int(peak) < 1 << 20  # kB
    [helper] = engine.children()
    assert "chatsite.engine" not in " ".join(helper.cmdline())


async def test_an_engine_whose_renderer_is_gone_ends(client) -> None:
    [helper] = psutil.Process(client.pid).children()
    for worker in helper.children():
        worker.kill()
    helper.kill()
    await client.send(ask("g", "hello"))
    assert await client.wait() == "exited with code 1"


async def test_the_renderer_ends_with_the_engine(client) -> None:
    engine = psutil.Process(client.pid)
    family = engine.children(recursive=True)
    assert len(family) >= 2
    client.kill()
    await client.wait()
    _gone, alive = psutil.wait_procs(family, timeout=60)
    assert not alive

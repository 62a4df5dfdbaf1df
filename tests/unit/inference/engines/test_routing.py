from chatsite.engine.contract.messages import ChatMessage, PromptOptions
from chatsite.inference.engines.routing import (
    Candidate,
    PrefixMemory,
    choose,
    prefixes,
)

SYSTEM = ChatMessage("system", "You are helpful. " * 20)
FIRST = (SYSTEM, ChatMessage("user", "What is a slot?"))
SECOND = (*FIRST, ChatMessage("assistant", "A place."), ChatMessage("user", "And a lease?"))


def of(messages, owner="1", model="m", **options):
    return prefixes(owner, model, messages, PromptOptions(**options))


def test_a_longer_conversation_begins_like_the_shorter_one():
    assert of(SECOND)[: len(FIRST)] == of(FIRST)


def test_prompts_of_other_owners_models_and_tools_have_no_prefix_in_common():
    own = {prefix.hash for prefix in of(FIRST)}
    assert not own & {prefix.hash for prefix in of(FIRST, owner="2")}
    assert not own & {prefix.hash for prefix in of(FIRST, model="n")}


def test_roles_and_the_place_of_text_count():
    swapped = (ChatMessage("user", SYSTEM.content), FIRST[1])
    assert of(FIRST)[0] != of(swapped)[0]
    split = (ChatMessage("user", "ab"), ChatMessage("user", "c"))
    joined = (ChatMessage("user", "a"), ChatMessage("user", "bc"))
    assert of(split)[-1] != of(joined)[-1]


def test_raw_text_is_compared_in_pieces():
    text = "x" * 3000
    assert len(of((), raw=text)) == 3
    assert of((), raw=text + "y")[:2] == of((), raw=text)[:2]
    assert of((), raw=(1, 2, 3)) == of((), raw=(1, 2, 3)) != of((), raw=(1, 2))


def test_lone_surrogates_are_no_obstacle():
    assert of((ChatMessage("user", "\ud800"),))


def test_a_memory_knows_the_share_of_a_prompt_that_was_computed():
    memory = PrefixMemory()
    assert memory.matched(of(FIRST)) == 0
    memory.note(of(FIRST))
    assert memory.matched(of(FIRST)) == 1
    assert 0.8 < memory.matched(of(SECOND)) < 1
    assert memory.matched(of(FIRST, owner="2")) == 0
    assert memory.matched(()) == 0
    memory.clear()
    assert memory.matched(of(FIRST)) == 0


def test_a_memory_forgets_what_was_computed_longest_ago():
    memory = PrefixMemory()
    for number in range(9000):
        memory.note(of((ChatMessage("user", str(number)),)))
    assert memory.matched(of((ChatMessage("user", "0"),))) == 0
    assert memory.matched(of((ChatMessage("user", "8999"),))) == 1


def test_the_engine_that_computed_the_prefix_is_chosen_even_if_it_is_busier():
    assert choose([Candidate(1, 0.0, 0.0), Candidate(2, 0.9, 0.8)]) == 2


def test_a_short_common_prefix_does_not_outweigh_load():
    assert choose([Candidate(1, 0.0, 0.0), Candidate(2, 0.2, 0.9)]) == 1


def test_new_prompts_go_to_the_engine_with_the_least_load():
    assert choose([Candidate(1, 0, 0.5), Candidate(2, 0, 0.25), Candidate(3, 0, 0.25)]) == 2

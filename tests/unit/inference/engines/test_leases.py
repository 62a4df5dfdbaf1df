from chatsite.inference.engines.leases import to_hold

A, B = frozenset({"a"}), frozenset({"b"})
ALIVE = frozenset({"h1", "h2"})


def test_a_host_keeps_what_it_holds():
    assert to_hold("h1", {1: A, 2: B}, {1: "h1", 2: "h2"}, ALIVE) == [1]


def test_engines_with_one_model_stay_together():
    models = {1: A, 2: A, 3: A}
    assert to_hold("h1", models, {1: "h1"}, ALIVE) == [1, 2, 3]
    assert to_hold("h2", models, {1: "h1"}, ALIVE) == []


def test_unrelated_engines_are_taken_one_at_a_time():
    models = {1: A, 2: B}
    assert to_hold("h1", models, {}, ALIVE) == [1]
    assert to_hold("h1", models, {1: "h1"}, ALIVE) == [1]  # the other host's turn
    assert to_hold("h2", models, {1: "h1"}, ALIVE) == [2]


def test_a_host_that_does_not_take_its_turn_is_not_waited_for():
    assert to_hold("h1", {1: A, 2: B}, {1: "h1"}, ALIVE, {2}) == [1, 2]
    assert to_hold("h1", {1: A, 2: A}, {1: "h2"}, ALIVE, {2}) == [2]


def test_one_host_takes_all_in_turn():
    models = {1: A, 2: B, 3: frozenset({"c"})}
    owners: dict[int, str] = {}
    for count in (1, 2, 3):
        held = to_hold("h1", models, owners, frozenset({"h1"}))
        owners = dict.fromkeys(held, "h1")
        assert len(held) == count


def test_engines_without_models_are_taken_too_for_their_first_check():
    assert to_hold("h1", {1: frozenset()}, {}, ALIVE) == [1]

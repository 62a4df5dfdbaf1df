from chatsite.inference.engines.health import CHECK_SECONDS, Health


def test_a_new_engine_is_checked_at_once_and_then_regularly():
    health = Health()
    assert str(health.state) == "checking"
    assert health.due_at <= 0
    assert health.succeeded(100) is False
    assert str(health.state) == "ready"
    assert health.due_at == 100 + CHECK_SECONDS


def test_the_pause_doubles_with_each_failure_up_to_a_minute():
    health, pauses = Health(), []
    for _ in range(9):
        health.failed("refused", 50)
        pauses.append(health.due_at - 50)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_only_the_first_failure_turns_the_engine_down():
    health = Health()
    assert [health.failed("refused", now) for now in (0, 1, 2)] == [True, False, False]
    assert health.down_for(10) == 10
    assert health.succeeded(11) is True
    assert health.down_for(12) == 0
    assert health.error == ""


def test_running_answers_are_given_up_after_three_failures():
    health = Health()
    health.succeeded(0)
    lost = []
    for now in (10, 11, 13):
        health.failed("timeout", now)
        lost.append(health.lost)
    assert lost == [False, False, True]


def test_an_answer_that_broke_off_has_the_engine_checked_before_the_next_request():
    health = Health()
    health.succeeded(0)
    health.suspect(3)
    assert str(health.state) == "checking"
    assert health.due_at == 3
    health.failed("refused", 3)
    due = health.due_at
    health.suspect(3.5)  # already known to be down: the pause stays
    assert str(health.state) == "down"
    assert health.due_at == due

"""The cost of steps, learned from measured steps."""

from __future__ import annotations

import pytest

from chatsite.engine.batching.speed import SpeedMeter


class TestSpeedMeter:
    def test_costs_are_interpolated_between_measurements_and_beyond_them_follow_prefill(self):
        meter = SpeedMeter()
        assert meter.decode_ms(3) == 0
        meter.record(2, 0, 20.0)
        meter.record(8, 0, 50.0)
        meter.record(0, 100, 200.0)
        assert [meter.rows_ms(n) for n in (0, 1, 2, 4, 8, 10)] == [0, 20, 20, 30, 50, 54]

    def test_guesses_teach_the_cost_of_rows(self):
        meter = SpeedMeter()
        meter.record(1, 0, 10.0)
        meter.record(1, 0, 40.0, drafted=7)
        assert meter.rows_ms(8) == 40
        # When one of three guesses, that is a separate pass.
        meter.record(3, 0, 20.0)
        meter.record(3, 0, 45.0, drafted=5, passes=2)
        assert meter.rows_ms(5) == 25
        meter.record(3, 0, 999.0, drafted=6, passes=3)
        assert meter.rows_ms(6) < 40

    def test_one_expensive_measurement_is_forgotten_in_time(self):
        meter = SpeedMeter()
        meter.record(1, 0, 10.0)
        meter.record(1, 0, 900.0, drafted=4)
        for _ in range(1000):
            meter.record(1, 0, 10.0)
        assert meter.rows_ms(5) == 900
        meter.record(1, 0, 10.0)
        assert meter.rows_ms(5) < 100

    def test_a_mixed_step_teaches_the_prefill_speed(self):
        meter = SpeedMeter()
        meter.record(4, 0, 40.0)
        meter.record(4, 120, 100.0)
        assert meter.prefill_tokens_per_ms == pytest.approx(2.0)

    def test_new_measurements_move_the_old_ones(self):
        meter = SpeedMeter()
        for _ in range(50):
            meter.record(0, 100, 100.0)
        for _ in range(50):
            meter.record(0, 100, 200.0)
            meter.record(1, 0, 30.0)
        assert meter.prefill_tokens_per_ms == pytest.approx(0.5, rel=0.01)
        assert meter.decode_ms(1) == pytest.approx(30)

    def test_a_step_faster_than_its_decode_is_no_division_by_zero(self):
        meter = SpeedMeter()
        meter.record(1, 0, 50.0)
        meter.record(1, 10, 0.0)
        assert meter.prefill_tokens_per_ms > 0

"""Celery tasks of usage statistics, started by beat."""

from __future__ import annotations

from chatsite.celery import app
from chatsite.usage import rollup


@app.task(name="chatsite.usage.roll_up", ignore_result=True)
def roll_up() -> None:
    rollup.count_ended()


@app.task(name="chatsite.usage.clean", ignore_result=True)
def clean() -> None:
    rollup.clean()

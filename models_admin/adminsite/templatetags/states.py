"""Template filters for the states of models and engines on a host."""

from django import template

from models_admin.adminsite.live.snapshot import ENGINE_STATES, MODEL_STATES

register = template.Library()


@register.filter
def model_state(state: str) -> str:
    return str(MODEL_STATES.get(state, state))


@register.filter
def engine_state(state: str) -> str:
    return str(ENGINE_STATES.get(state, state))

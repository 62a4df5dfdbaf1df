"""Chat templates written for tests, each with the traits of a family of models."""

from __future__ import annotations

from typing import Final

# Turns must alternate and there is no system role, as in Gemma and Mistral.
ALTERNATING: Final = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}</turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}"
)

# Shows only the last system message, as R1's does; SmolLM3's shows only the first.
LAST_SYSTEM: Final = (
    "{% set ns = namespace(system='') %}"
    "{% for m in messages if m.role == 'system' %}{% set ns.system = m.content %}{% endfor %}"
    "{{ ns.system }}{% for m in messages if m.role != 'system' %}"
    "<|{{ m.role }}|>{{ m.content.split('</think>')[-1] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
FIRST_SYSTEM: Final = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
    "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# Merges the system text into the next question: without one it is dropped.
FOLDING: Final = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content ~ '\n' %}"
    "{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}"
    "{% if m.role == 'user' %}[INST]{{ system if loop.first }}{{ m.content }}[/INST]"
    "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)

_TOOLS: Final = (
    "{% if tools %}<|system|>{% for t in tools %}{{ t | tojson }}{% endfor %}<|end|>{% endif %}"
)

# One call per answer, as in Llama 3.
ONE_CALL: Final = (
    _TOOLS + "{% for m in messages %}"
    "{% if m.tool_calls %}"
    "{% if m.tool_calls | length != 1 %}"
    "{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}"
    "{% set call = m.tool_calls[0].function %}"
    '<|assistant|>{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}<|end|>'
    "{% elif m.role == 'tool' %}<|ipython|>{{ m.content }}<|end|>"
    "{% else %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# Calls as key-value pairs, as in GLM.
PAIRS: Final = (
    _TOOLS + "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function.name }}\n"
    "{% for key, value in call.function.arguments.items() %}<arg_key>{{ key }}</arg_key>\n"
    "<arg_value>{{ value if value is string else value | tojson }}</arg_value>\n{% endfor %}"
    "</tool_call>{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# Unknown marks around reasoning and calls; arguments must be text.
UNKNOWN: Final = (
    _TOOLS + "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.thinking %}<|ponder|>{{ m.thinking }}<|/ponder|>{% endif %}{{ m.content }}"
    "{% if m.tool_calls %}<|do|>[{% for call in m.tool_calls %}"
    '{"name": "{{ call.function.name }}", "arguments": {{ \'\' + call.function.arguments }}}'
    "{{ ', ' if not loop.last }}{% endfor %}]<|done|>{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# Reads tools from another variable, and renders no calls.
XML_TOOLS: Final = (
    "{% if xml_tools %}{{ xml_tools | tojson }}{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{# tools <tool_call> #}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# Contents are lists of parts.
PARTS: Final = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% for part in m.content %}{{ part.text if part.type == 'text' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# Iterates over the tools without checking that there are any.
ALWAYS_TOOLS: Final = (
    "{% for t in tools %}{{ t | tojson }}{% endfor %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# OpenAI's harmony, as in gpt-oss: one call per answer, whose reasoning is `thinking`.
HARMONY: Final = (
    "<|start|>system<|message|>Reasoning: {{ reasoning_effort or 'medium' }}<|end|>"
    "{% set first = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% if first or tools %}<|start|>developer<|message|>{{ first }}{{ tools | tojson if tools }}"
    "<|end|>{% endif %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if m.tool_calls %}{% set call = m.tool_calls[0].function %}"
    "{% if m.content and m.thinking %}{{ raise_exception('not both') }}{% endif %}"
    "{% if m.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>"
    "{% endif %}<|start|>assistant to=functions.{{ call.name }}<|channel|>commentary json"
    "<|message|>{{ call.arguments | tojson }}<|call|>"
    "{% else %}{% if loop.last and not add_generation_prompt and m.thinking %}"
    "<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>{% endif %}"
    "{% elif m.role == 'tool' %}<|start|>functions.{{ m.name }} to=assistant<|channel|>commentary"
    "<|message|>{{ m.content | tojson }}<|end|>"
    "{% elif m.role == 'user' %}<|start|>user<|message|>{{ m.content }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)

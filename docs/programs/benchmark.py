"""One question to several models, here and elsewhere: seconds, tokens per second, the answer.

    pip install openai
    python benchmark.py QUESTION  here=http://127.0.0.1:8000/v1,cs-…,smollm2:135m  \
                                  cloud=https://api.example.org/v1,sk-…,some-model
"""

import sys
import time

from openai import OpenAI

question, *targets = sys.argv[1:]
print(f"{'where':10} {'model':24} {'seconds':>8} {'tokens':>7} {'tokens/s':>9}  answer")
for target in targets:
    where, _, rest = target.partition("=")
    address, key, model = rest.split(",")
    began = time.perf_counter()
    answer = OpenAI(base_url=address, api_key=key).chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], max_tokens=200
    )
    seconds = time.perf_counter() - began
    tokens = answer.usage.completion_tokens
    text = " ".join(answer.choices[0].message.content.split())[:60]
    print(f"{where:10} {model:24} {seconds:8.2f} {tokens:7} {tokens / seconds:9.1f}  {text}")

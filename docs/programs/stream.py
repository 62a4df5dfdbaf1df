"""An answer word by word, through OpenAI's package.

pip install openai
OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=cs-… python stream.py MODEL QUESTION
"""

import sys

from openai import OpenAI

model, question = sys.argv[1:]
stream = OpenAI().chat.completions.create(
    model=model, messages=[{"role": "user", "content": question}], stream=True
)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)
print()

"""A conversation in the terminal, through Ollama's package.

pip install ollama
OLLAMA_HOST=http://127.0.0.1:8000 OLLAMA_API_KEY=cs-… python chat.py [MODEL]
"""

import sys

import ollama

model = sys.argv[1] if len(sys.argv) > 1 else "smollm2:135m"
messages = []
for line in sys.stdin:
    messages.append({"role": "user", "content": line.strip()})
    answer = ollama.chat(model, messages)
    messages.append({"role": "assistant", "content": answer.message.content})
    print(answer.message.content)

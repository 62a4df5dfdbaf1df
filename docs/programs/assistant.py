"""An assistant of one's own: a custom model as a Modelfile would make it, asked once, then removed.

    pip install ollama
    OLLAMA_HOST=http://127.0.0.1:8000 OLLAMA_API_KEY=cs-… python assistant.py MODEL QUESTION

The key belongs to an administrator: others may not change the models of the server.
"""

import sys

import ollama

model, question = sys.argv[1:]
ollama.create(
    "tutor",
    from_=model,
    system="You are a patient tutor. Explain in one short paragraph.",
    parameters={"temperature": 0.3, "num_predict": 120},
)
try:
    answer = ollama.chat("tutor", [{"role": "user", "content": question}])
    print(answer.message.content)
finally:
    ollama.delete("tutor")

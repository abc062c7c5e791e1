"""The server that one writes first: FastAPI, a thread a request, the model asked for each.

python -m benchmarks._plain_server RUN PORT
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from widemax import Model

model = Model.load(sys.argv[1])
app = FastAPI()


class Question(BaseModel):
    inputs: list[str]
    k: int = 5


@app.post("/v1/predict")
def predict(question: Question) -> dict[str, object]:
    answers = model.predict(question.inputs, k=question.k)
    return {"rows": [[{"label": p.label, "probability": p.probability} for p in row] for row in answers]}


uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")

"""What a Python programmer writes in ten minutes: FastAPI and sentence-transformers in one process.

usage: fastapi_server.py MODEL_FOLDER PORT
"""
import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

folder, port = sys.argv[1:]
model = SentenceTransformer(folder, device="cpu")
app = FastAPI()


class Request(BaseModel):
    inputs: str | list[str]


@app.get("/health")
def health():
    return {"status": "ok"}


@app.post("/embed")
def embed(request: Request):
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    return model.encode(texts, show_progress_bar=False).tolist()


uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")

"""Texts in, sentence-transformers' vectors out.

usage: st_embed.py MODEL_FOLDER
A line on stdin is a JSON list of texts; the line on stdout that answers it is {"versions", "vectors": float32 in base64, row by row}.
"""
import base64
import json
import sys

import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1], device="cpu")
versions = f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}"
for line in sys.stdin:
    vectors = model.encode(json.loads(line), show_progress_bar=False).astype("<f4")
    print(json.dumps({"versions": versions, "vectors": base64.b64encode(vectors.tobytes()).decode()}), flush=True)

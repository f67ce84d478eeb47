"""Writes what sentence-transformers and Hugging Face's tokenizers make of titles.json, as reference for parity.test.ts.

usage: reference.py MODEL_FOLDER OUT.json

For tiny.json the folder is the random one of test/support/tiny-model.ts:
  node -e "import('./dist/test/support/tiny-model.js').then((m) => m.makeTinyModel(process.argv[1]))" /tmp/tiny
for tiny-dense.json the same with { dense: [24, 16] } behind process.argv[1],
for default.json it is the unpacked default encoder (sentence-jepa model info default prints where it is), for
minilm.json all-MiniLM-L6-v2 (sentence-jepa model get all-MiniLM-L6-v2 prints it).
"""
import base64
import json
import pathlib
import sys

import numpy as np
import sentence_transformers
import tokenizers
from sentence_transformers import SentenceTransformer

folder, out = sys.argv[1:]
titles = json.loads((pathlib.Path(__file__).parent / "titles.json").read_text("utf-8"))
model = SentenceTransformer(folder, device="cpu")
tokenizer = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json")
tokenizer.no_truncation()
tokenizer.no_padding()
vectors = np.concatenate([model.encode([title], convert_to_numpy=True) for title in titles]).astype("<f4")
reference = {
    "by": f"sentence-transformers {sentence_transformers.__version__}, tokenizers {tokenizers.__version__}",
    "maxTokens": model.max_seq_length,
    "dimensions": vectors.shape[1],
    # Ids before truncation, and little-endian float32 in base64: a line a title.
    "ids": [" ".join(map(str, tokenizer.encode(title).ids)) for title in titles],
    "vectors": [base64.b64encode(row.tobytes()).decode() for row in vectors],
}
pathlib.Path(out).write_text(json.dumps(reference, indent=2) + "\n")

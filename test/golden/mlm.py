"""Hugging Face's BertForMaskedLM in float64 on a tiny random encoder of test/support/tiny-model.ts, dropout off: loss and gradients.

usage: mlm.py MODEL_FOLDER && npx prettier --write mlm.json

The folder is written by
  node -e "import('./dist/test/support/tiny-model.js').then((m) => m.makeTinyModel(process.argv[1], { layers: 1, hiddenSize: 8, heads: 2 }))" /tmp/tiny
Each sequence goes through alone, so that there is no padding. `rows` count through all sequences laid end to end. The loss is the mean
over them. The decoder's weights are the word embeddings. Parameters are named as in encoder/bert.ts, the head's as in
trainer/tensorflow/mlm.ts.
"""
import sys

import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import BertForMaskedLM

from golden import random, write

CLS, SEP, MASK, FIRST_WORD = 2, 3, 4, 5
LENGTHS = [9, 4, 12, 6]
# By sequence: the places to guess, and what stands there: [MASK], a random token or the right one.
GUESSES = [{1: "masked", 2: "masked", 6: "random"}, {2: "masked"}, {3: "kept", 9: "masked", 10: "masked"}, {}]
HEAD = {
    "mlm.transform.weight": "cls.predictions.transform.dense.weight",
    "mlm.transform.bias": "cls.predictions.transform.dense.bias",
    "mlm.transform.norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "mlm.transform.norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "mlm.bias": "cls.predictions.bias",
}

model = BertForMaskedLM.from_pretrained(sys.argv[1], attn_implementation="eager").double().eval()
assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
assert model.cls.predictions.decoder.bias is model.cls.predictions.bias
generator = torch.Generator().manual_seed(8)
parameters = dict(model.named_parameters())
with torch.no_grad():
    for name in HEAD.values():
        value = parameters[name]
        value.copy_(random(generator, *value.shape, scale=0.4, mean=1.0 if name.endswith("LayerNorm.weight") else 0.0))
head = {name: parameters[theirs].detach().clone() for name, theirs in HEAD.items()}


def words(count):
    return torch.randint(FIRST_WORD, model.config.vocab_size, (count,), generator=generator).tolist()


sequences, rows, labels = [], [], []
for length, guesses in zip(LENGTHS, GUESSES):
    sequence = [CLS, *words(length - 2), SEP]
    start = sum(map(len, sequences))
    for place, kind in guesses.items():
        rows.append(start + place)
        labels.append(sequence[place])
        if kind != "kept":
            sequence[place] = MASK if kind == "masked" else words(1)[0]
    sequences.append(sequence)
# The same word twice, and one that is among the inputs: the gradients of its embedding add up.
labels[1] = labels[0]
labels[3] = sequences[0][4]

logits = torch.cat([model(input_ids=torch.tensor([ids])).logits[0] for ids in sequences])
# One guess is right, by a margin.
best = logits[rows[5]].topk(2)
assert best.values[0] - best.values[1] > 0.01
labels[5] = best.indices[0].item()
loss = cross_entropy(logits[rows], torch.tensor(labels))
loss.backward()
accuracy = (logits[rows].argmax(1) == torch.tensor(labels)).double().mean()
ours = {theirs: name for name, theirs in HEAD.items()}
gradients = {ours.get(name, name.removeprefix("bert.")): value.grad.flatten() for name, value in parameters.items()}

write(
    "mlm.json",
    f"transformers {transformers.__version__}, torch {torch.__version__}, float64",
    {
        "sequences": sequences,
        "rows": rows,
        "labels": labels,
        "head": head,
        "loss": loss.detach(),
        "accuracy": accuracy,
        "gradients": gradients,
    },
)

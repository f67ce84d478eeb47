"""Hugging Face's BertModel in float64 on the tiny random encoder of test/support/tiny-model.ts, dropout off: vectors and gradients.

usage: bert.py MODEL_FOLDER && npx prettier --write bert.json

The folder is written by
  node -e "import('./dist/test/support/tiny-model.js').then((m) => m.makeTinyModel(process.argv[1]))" /tmp/tiny
Each sequence goes through alone, so that there is no padding. `gradients` are those of sum(upstream * pooled), under the names of
encoder/bert.ts: all numbers, row by row, of tensors with up to 400; of larger ones the L2 norm and the numbers at some flat positions.
"""
import sys

import torch
import transformers
from transformers import BertModel

from golden import random, write

CLS, SEP, FIRST_WORD = 2, 3, 5
LENGTHS = [9, 3, 14, 6, 11, 4, 9]
WHOLE = 400

model = BertModel.from_pretrained(sys.argv[1], add_pooling_layer=False, attn_implementation="eager").double().eval()
d = model.config.hidden_size
generator = torch.Generator().manual_seed(3)
sequences = [
    [CLS, *torch.randint(FIRST_WORD, model.config.vocab_size, (length - 2,), generator=generator).tolist(), SEP] for length in LENGTHS
]
upstream = random(generator, len(sequences), d)
POOLINGS = {"mean": lambda hidden: hidden.mean(0), "cls": lambda hidden: hidden[0]}


def spread(positions, count):
    """`count` of the positions, first and last among them."""
    return positions[torch.linspace(0, len(positions) - 1, count).round().long()]


def summary(gradient):
    flat = gradient.flatten()
    if len(flat) <= WHOLE:
        return flat
    # Rows of tokens and positions that don't occur have no gradient: some of those, too.
    zeros = (flat == 0).nonzero().flatten()
    chosen = spread((flat != 0).nonzero().flatten(), 20)
    if len(zeros) > 0:
        chosen = torch.cat([chosen, spread(zeros, 4)]).sort().values
    return {"norm": flat.norm(), "at": chosen, "values": flat[chosen]}


def case(pool):
    model.zero_grad()
    pooled = torch.stack([pool(model(input_ids=torch.tensor([ids])).last_hidden_state[0]) for ids in sequences])
    (upstream * pooled).sum().backward()
    gradients = {name: summary(value.grad) for name, value in model.named_parameters()}
    return {"pooled": pooled.detach(), "gradients": gradients}


write(
    "bert.json",
    f"transformers {transformers.__version__}, torch {torch.__version__}, float64",
    {"sequences": sequences, "upstream": upstream, **{name: case(pool) for name, pool in POOLINGS.items()}},
)

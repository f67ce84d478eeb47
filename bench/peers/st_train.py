"""The training step of sentence-transformers and PyTorch: VICReg (Bardes et al. 2022) on given pairs of views.

usage: st_train.py MODEL_FOLDER PAIRS.jsonl SETTINGS

A line of PAIRS.jsonl is [view, other view]; SETTINGS are bench/train.ts's in JSON. A line on stdin is a number of seconds: it trains
that long, one step at least, and answers {"steps", "sentences", "tokens", "seconds", "losses", "versions"}; sentences and tokens are
those of both views, without padding.
"""
import itertools
import json
import sys
import time

import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer
from torch.nn import BatchNorm1d, Linear, ReLU, Sequential
from torch.nn.functional import mse_loss

folder, pairs_file, settings = sys.argv[1:]
recipe = json.loads(settings)
batch = recipe["batch"]
with open(pairs_file, encoding="utf-8") as file:
    pairs = [json.loads(line) for line in file]

torch.set_num_threads(recipe["threads"])
torch.manual_seed(recipe["seed"])
encoder = SentenceTransformer(folder, device="cpu")
encoder.max_seq_length = recipe["maxTokens"]
transformer, pooling = encoder[0], encoder[1]
# Older versions call it tokenize.
preprocess = encoder.preprocess if hasattr(encoder, "preprocess") else encoder.tokenize

sizes = [transformer.auto_model.config.hidden_size, *recipe["expander"]]
layers = []
for inputs, outputs in itertools.pairwise(sizes[:-1]):
    layers += [Linear(inputs, outputs), BatchNorm1d(outputs), ReLU()]
expander = Sequential(*layers, Linear(sizes[-2], sizes[-1], bias=recipe["expanderBias"]))

parameters = [*transformer.parameters(), *expander.parameters()]
optimizer = torch.optim.AdamW(
    [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": recipe["weightDecay"]},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ],
    lr=recipe["learningRate"],
)
encoder.train()


def regularizers(z):
    centred = z - z.mean(0)
    covariance = centred.T @ centred / (len(z) - 1)
    variance = torch.relu(1 - torch.sqrt(covariance.diagonal() + 1e-4)).mean()
    return variance, (covariance.pow(2).sum() - covariance.diagonal().pow(2).sum()) / z.shape[1]


def step(rows):
    tokens, embedded = 0, []
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe["precision"] == "bf16"):
        for view in zip(*rows):
            features = {k: v for k, v in preprocess(list(view)).items() if torch.is_tensor(v)}
            tokens += int(features["attention_mask"].sum())
            embedded.append(expander(pooling(transformer(features))["sentence_embedding"]))
    # The loss is in fp32 in both trainers.
    x, y = (z.float() for z in embedded)
    (variance_x, covariance_x), (variance_y, covariance_y) = regularizers(x), regularizers(y)
    loss = recipe["lambda"] * mse_loss(x, y) + recipe["mu"] * (variance_x + variance_y) / 2 + recipe["nu"] * (covariance_x + covariance_y)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, recipe["clip"])
    optimizer.step()
    return loss.item(), tokens


versions = f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}"
at = 0
for line in sys.stdin:
    tokens, losses, begin = 0, [], time.perf_counter()
    while not losses or time.perf_counter() - begin < float(line):
        loss, real = step([pairs[(at + i) % len(pairs)] for i in range(batch)])
        at, tokens = at + batch, tokens + real
        losses.append(loss)
    seconds = time.perf_counter() - begin
    answer = {"steps": len(losses), "sentences": 2 * batch * len(losses), "tokens": tokens, "seconds": seconds, "losses": losses}
    print(json.dumps({**answer, "versions": versions}), flush=True)

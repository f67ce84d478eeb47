"""Steps of PyTorch's SparseAdam on an embedding of which each step touches some rows, in float64.

usage: sparse_adam.py && npx prettier --write sparse_adam.json

SparseAdam has no weight decay: every row is shrunk before its step by 1 - rate x decay, as AdamW does (Loshchilov and Hutter 2019).
"""
import torch

from golden import random, write

LEARNING_RATE, DECAY = 1e-2, 0.01
generator = torch.Generator().manual_seed(12)
embedding = random(generator, 5, 3).requires_grad_()
start = embedding.detach().clone()
optimizer = torch.optim.SparseAdam([embedding], lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8)
steps = []
# Row 4 is never touched, row 1 rests for three steps in between.
for touched in ([2, 0, 1], [3], [2], [0, 3], [1, 2]):
    rows = random(generator, len(touched), 3)
    embedding.grad = torch.sparse_coo_tensor(torch.tensor([touched]), rows, embedding.shape)
    with torch.no_grad():
        embedding.mul_(1 - LEARNING_RATE * DECAY)
    optimizer.step()
    steps.append({"touched": touched, "rows": rows, "embedding": embedding.detach().clone()})

options = {"learningRate": LEARNING_RATE, "weightDecay": DECAY}
write("sparse_adam.json", f"torch {torch.__version__}, float64", {**options, "start": start, "steps": steps})

"""InfoNCE with in-batch negatives by PyTorch's autograd in float64: cosine / temperature, cross entropy, one direction or both.

usage: infonce.py && npx prettier --write infonce.json

A pair of gradients is that for Z and that for Z'. `accuracy` is that of the first direction.
"""
import torch
from torch.nn.functional import cosine_similarity, cross_entropy

from golden import random, write


def case(generator, n, d, temperature, symmetric):
    z = random(generator, n, d).requires_grad_()
    # Nearer to its partner than to most others, and not always nearest.
    other = random(generator, n, d).add(z.detach()).mul(1000).round().div(1000).requires_grad_()
    logits = cosine_similarity(z[:, None], other[None], dim=-1) / temperature
    own = torch.arange(n)
    loss = cross_entropy(logits, own)
    if symmetric:
        loss = (loss + cross_entropy(logits.T, own)) / 2
    return {
        "temperature": temperature,
        "symmetric": symmetric,
        "z": z,
        "other": other,
        "loss": loss,
        "accuracy": (logits.argmax(1) == own).double().mean(),
        "gradients": torch.autograd.grad(loss, (z, other)),
    }


generator = torch.Generator().manual_seed(21)
write(
    "infonce.json",
    f"torch {torch.__version__}, float64",
    {
        "cases": [
            case(generator, n, d, temperature, symmetric)
            for n, d in ((6, 4), (3, 8))
            for temperature, symmetric in ((0.05, False), (0.5, True))
        ]
    },
)

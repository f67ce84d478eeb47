"""InfoNCE with in-batch and hard negatives by PyTorch's autograd in float64: cosine / temperature, cross entropy, one direction or both.

usage: infonce.py && npx prettier --write infonce.json

Gradients are those for Z, for Z' and, where there are any, for the hard negatives. `accuracy` is that of the first direction.
"""
import torch
from torch.nn.functional import cosine_similarity, cross_entropy

from golden import random, write


def case(generator, n, d, temperature, symmetric, m=0):
    z = random(generator, n, d).requires_grad_()
    # Nearer to its partner than to most others, and not always nearest.
    other = random(generator, n, d).add(z.detach()).mul(1000).round().div(1000).requires_grad_()
    negatives = random(generator, m, d).requires_grad_()
    candidates = torch.cat((other, negatives))
    logits = cosine_similarity(z[:, None], candidates[None], dim=-1) / temperature
    own = torch.arange(n)
    loss = cross_entropy(logits, own)
    if symmetric:
        loss = (loss + cross_entropy(logits[:, :n].T, own)) / 2
    return {
        "temperature": temperature,
        "symmetric": symmetric,
        "z": z,
        "other": other,
        **({"negatives": negatives} if m else {}),
        "loss": loss,
        "accuracy": (logits.argmax(1) == own).double().mean(),
        "gradients": torch.autograd.grad(loss, (z, other, negatives) if m else (z, other)),
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
        + [case(generator, 4, 5, 0.1, symmetric, m=7) for symmetric in (False, True)]
    },
)

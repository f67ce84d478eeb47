"""Barlow Twins (Zbontar et al. 2021) by PyTorch's autograd in float64, BatchNorm1d without scale and shift in training mode.

usage: barlow_twins.py && npx prettier --write barlow_twins.json

A pair of gradients is that for Z and that for Z'.
"""
import torch
from torch.nn import BatchNorm1d

from golden import random, write


def case(generator, n, d, weight):
    z = random(generator, n, d, mean=0.3).requires_grad_()
    other = random(generator, n, d).add(z.detach()).mul(1000).round().div(1000).requires_grad_()
    norm = BatchNorm1d(d, affine=False).train()
    correlation = norm(z).T @ norm(other) / n
    diagonal = torch.eye(d, dtype=torch.bool)
    invariance = (1 - correlation[diagonal]).square().sum()
    redundancy = weight * correlation[~diagonal].square().sum()
    return {
        "lambda": weight,
        "z": z,
        "other": other,
        "terms": {"invariance": invariance, "redundancy": redundancy},
        "gradients": torch.autograd.grad(invariance + redundancy, (z, other)),
    }


generator = torch.Generator().manual_seed(22)
write(
    "barlow_twins.json",
    f"torch {torch.__version__}, float64",
    {"cases": [case(generator, n, d, weight) for n, d in ((8, 4), (5, 9)) for weight in (0.005, 0.5)]},
)

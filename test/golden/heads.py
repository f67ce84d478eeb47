"""Heads beside an objective by PyTorch's autograd in float64: replaced tokens, edits, and VICReg with a predictor or a target.

usage: heads.py && npx prettier --write heads.json

Parameters are named as in trainer/tensorflow/replaced-tokens.ts and expander.ts; a weight is [out, in].
"""
import torch
from torch.nn import BatchNorm1d, Linear, ReLU, Sequential
from torch.nn.functional import binary_cross_entropy_with_logits, gelu, linear, mse_loss, relu

from golden import random, write

generator = torch.Generator().manual_seed(23)


def named(parameters):
    return {name: value.requires_grad_() for name, value in parameters.items()}


def gradients(loss, tensors):
    return dict(zip(tensors, torch.autograd.grad(loss, list(tensors.values()))))


def replaced_tokens():
    tokens, n, d, D, weight = 11, 3, 4, 5, 0.7
    hidden, embeddings = random(generator, tokens, d).requires_grad_(), random(generator, n, D).requires_grad_()
    rows, sequences, labels = [0, 1, 2, 5, 6, 8, 10], [0, 0, 0, 1, 1, 2, 2], [0, 1, 0, 0, 1, 0, 1]
    of = named(
        {
            "rtd.hidden.weight": random(generator, d, d),
            "rtd.embedding.weight": random(generator, d, D),
            "rtd.bias": random(generator, d),
            "rtd.output.weight": random(generator, 1, d),
            "rtd.output.bias": random(generator, 1),
        }
    )
    inner = linear(torch.cat([hidden[rows], embeddings[sequences]], 1), torch.cat([of["rtd.hidden.weight"], of["rtd.embedding.weight"]], 1), of["rtd.bias"])
    logits = linear(gelu(inner), of["rtd.output.weight"], of["rtd.output.bias"])[:, 0]
    wanted = torch.tensor(labels, dtype=torch.float64)
    loss = binary_cross_entropy_with_logits(logits, wanted)
    return {
        **{"weight": weight, "hidden": hidden, "embeddings": embeddings, "rows": rows, "sequences": sequences, "labels": labels},
        "parameters": of,
        "loss": loss,
        "accuracy": ((logits > 0).double() == wanted).double().mean(),
        "gradients": gradients(weight * loss, {"hidden": hidden, "embeddings": embeddings, **of}),
    }


def layers(name, sizes):
    """Linear, batch norm, ReLU, Linear, with parameters named as in expander.ts."""
    first, norm, last = Linear(sizes[0], sizes[1]), BatchNorm1d(sizes[1]), Linear(sizes[1], sizes[2])
    of = {}
    for module, prefix in ((first, f"{name}.0"), (norm, f"{name}.0.norm"), (last, f"{name}.1")):
        of |= {f"{prefix}.{part}": value for part, value in module.named_parameters()}
    with torch.no_grad():
        for part, value in of.items():
            value.copy_(random(generator, *value.shape, scale=0.5, mean=1.0 if part.endswith("norm.weight") else 0.0))
    return Sequential(first, norm, ReLU(), last).train(), of


def edits():
    n, D, K, weight = 6, 4, 3, 1.5
    z, other = random(generator, n, D).requires_grad_(), random(generator, n, D).requires_grad_()
    head, of = layers("edits", [2 * D, D, 2 * K])
    kinds = (torch.rand(n, K, generator=generator) < 0.5).double()
    shares = kinds * random(generator, n, K, scale=0.2, mean=0.5)
    logits, guesses = head(torch.cat([z, other], 1)).split(K, 1)
    loss = binary_cross_entropy_with_logits(logits, kinds) + mse_loss(guesses, shares)
    return {
        **{"weight": weight, "z": z, "other": other, "kinds": kinds, "shares": shares},
        "parameters": of,
        "loss": loss,
        "accuracy": ((logits > 0).double() == kinds).double().mean(),
        "shareError": mse_loss(guesses, shares).sqrt(),
        "gradients": gradients(weight * loss, {"z": z, "other": other, **of}),
    }


def regularizers(z):
    std = torch.sqrt(z.var(dim=0) + 1e-4)
    covariance = torch.cov(z.T)
    off = covariance[~torch.eye(z.shape[1], dtype=torch.bool)]
    return 25 * relu(1 - std).mean() / 2 + off.square().sum() / z.shape[1]


def predictive():
    """Invariance between predictor(z, condition) and z', everything else as ever."""
    n, D, conditions = 7, 4, 3
    z, other = random(generator, n, D).requires_grad_(), random(generator, n, D).requires_grad_()
    condition = torch.rand(n, conditions, generator=generator).mul(1000).round().div(1000)
    predictor, of = layers("predictor", [D + conditions, 6, D])
    invariance = 25 * mse_loss(predictor(torch.cat([z, condition], 1)), other)
    return {
        **{"z": z, "other": other, "condition": condition},
        "parameters": of,
        "invariance": invariance,
        "gradients": gradients(invariance + regularizers(z) + regularizers(other), {"z": z, "other": other, **of}),
    }


def target():
    """Invariance to an embedding that has no gradient, in the place of z'."""
    n, D = 5, 6
    z, other = random(generator, n, D).requires_grad_(), random(generator, n, D).requires_grad_()
    fixed = random(generator, n, D)
    invariance = 25 * mse_loss(z, fixed)
    return {
        **{"z": z, "other": other, "target": fixed},
        "invariance": invariance,
        "gradients": gradients(invariance + regularizers(z) + regularizers(other), {"z": z, "other": other}),
    }


write(
    "heads.json",
    f"torch {torch.__version__}, float64",
    {"replacedTokens": replaced_tokens(), "edits": edits(), "predictive": predictive(), "target": target()},
)

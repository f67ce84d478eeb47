"""VICReg (Bardes et al. 2022) by PyTorch's autograd in float64, as reference for the trainer's closed form.

usage: vicreg.py && npx prettier --write vicreg.json

Terms are unweighted: invariance s(Z, Z'), variance (v(Z) + v(Z')) / 2, covariance c(Z) + c(Z'). A pair of gradients is
that for Z and that for Z'. `loss` is 25 s + 25 (v + v') / 2 + c + c'. `squared` is the published sketch's: invariance is
the square of s, and its loss 25 s^2 + 25 (v + v') + c + c'.
"""
import torch
from torch.nn.functional import mse_loss, relu

from golden import three_decimals, write


def std(z):
    return torch.sqrt(z.var(dim=0) + 1e-4)


def variance(z):
    return relu(1 - std(z)).mean()


def covariance(z):
    d = z.shape[1]
    matrix = torch.cov(z.T)
    return matrix[~torch.eye(d, dtype=torch.bool)].square().sum() / d


def gradients(function, z, other):
    return torch.autograd.grad(function(z, other), (z, other))


TERMS = {
    "invariance": mse_loss,
    "variance": lambda z, other: (variance(z) + variance(other)) / 2,
    "covariance": lambda z, other: covariance(z) + covariance(other),
}


def loss(z, other):
    return 25 * TERMS["invariance"](z, other) + 25 * TERMS["variance"](z, other) + TERMS["covariance"](z, other)


def squared_invariance(z, other):
    zero = torch.zeros(())
    return mse_loss(mse_loss(z, other), zero)


def sketch_loss(z, other):
    return 25 * squared_invariance(z, other) + 25 * (variance(z) + variance(other)) + covariance(z) + covariance(other)


def case(name, generator, n, scales):
    """Embeddings that are correlated between the views and between dimensions; a dimension's std is about its scale."""
    d = len(scales)
    mixing = torch.eye(d) + 0.3 * torch.randn(d, d, generator=generator)
    common = torch.randn(n, d, generator=generator)
    spread = torch.tensor(scales)
    shift = torch.randn(d, generator=generator)
    z, other = (
        three_decimals((common + 0.5 * torch.randn(n, d, generator=generator)) @ mixing * spread + shift).requires_grad_()
        for _ in range(2)
    )
    for view in (z, other):
        sizes = std(view)
        assert (sizes < 1).any() and (sizes > 1).any(), f"{name}: expected the hinge on in some dimensions and off in others: {sizes}"
        assert (sizes - 1).abs().min() > 0.01, f"{name}: too close to the hinge's corner: {sizes}"
    return {
        "name": name,
        "n": n,
        "d": d,
        "z": z,
        "other": other,
        "std": [std(z), std(other)],
        "terms": {term: function(z, other) for term, function in TERMS.items()},
        "gradients": {term: gradients(function, z, other) for term, function in TERMS.items()},
        "loss": loss(z, other),
        "lossGradients": gradients(loss, z, other),
        "squared": {
            "invariance": squared_invariance(z, other),
            "gradients": gradients(squared_invariance, z, other),
            "loss": sketch_loss(z, other),
            "lossGradients": gradients(sketch_loss, z, other),
        },
    }


generator = torch.Generator().manual_seed(20220504)
write(
    "vicreg.json",
    f"torch {torch.__version__}, float64",
    {
        "cases": [
            case("fewer rows than dimensions", generator, 6, [0.1, 0.3, 0.5, 0.6, 0.8, 1.2, 1.5, 1.8, 2, 2.5]),
            case("more rows than dimensions", generator, 12, [0.3, 0.5, 0.8, 1.5, 2]),
            case("a nearly collapsed dimension", generator, 5, [0.004, 0.3, 1.6, 2]),
        ]
    },
)

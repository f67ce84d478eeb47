"""The expander (Linear, batch norm, ReLU; again; Linear) by PyTorch's autograd in float64, batch norm in training mode.

usage: expander.py && npx prettier --write expander.json

`gradients` are those of sum(upstream * z). Parameters are named as in trainer/tensorflow/expander.ts; a weight is [out, in].
"""
import torch
from torch.nn import BatchNorm1d, Linear, ReLU, Sequential

from golden import random, write

N, INPUT, WIDTHS = 5, 4, [6, 7, 3]


def case(generator, bias):
    sizes = [INPUT, *WIDTHS]
    linear = [Linear(sizes[i], sizes[i + 1], bias=bias or i < 2) for i in range(3)]
    norm = [BatchNorm1d(width) for width in WIDTHS[:2]]
    expander = Sequential(linear[0], norm[0], ReLU(), linear[1], norm[1], ReLU(), linear[2])
    parameters = {}
    for i in range(3):
        parameters |= {f"expander.{i}.{name}": value for name, value in linear[i].named_parameters()}
        if i < 2:
            parameters |= {f"expander.{i}.norm.{name}": value for name, value in norm[i].named_parameters()}
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(random(generator, *value.shape, scale=0.5, mean=1.0 if name.endswith("norm.weight") else 0.0))
    h = random(generator, N, INPUT).requires_grad_()
    upstream = random(generator, N, WIDTHS[2])

    before_relu = []
    for layer in norm:
        layer.register_forward_hook(lambda _layer, _inputs, output: before_relu.append(output))
    z = expander.train()(h)
    assert all((x.abs() > 0.005).all() for x in before_relu), "too close to ReLU's corner"
    gradients = torch.autograd.grad((upstream * z).sum(), [h, *parameters.values()])
    return {
        "bias": bias,
        "h": h,
        "parameters": parameters,
        "upstream": upstream,
        "z": z,
        "gradients": dict(zip(["h", *parameters], gradients)),
    }


generator = torch.Generator().manual_seed(15)
write(
    "expander.json",
    f"torch {torch.__version__}, float64",
    {"widths": WIDTHS, "eps": 1e-5, "cases": [case(generator, False), case(generator, True)]},
)

"""Three steps of PyTorch's AdamW, the gradient clipped to a global norm of 1 as clip_grad_norm_ does, in float64.

usage: adamw.py && npx prettier --write adamw.json

The matrix decays, the vector does not. The second step's gradient is below the limit. A step's `norm` is the one before clipping.
"""
import torch

from golden import random, write

LEARNING_RATE, DECAY, CLIP = 1e-3, 0.01, 1.0
generator = torch.Generator().manual_seed(11)
parameters = {"matrix": random(generator, 2, 3).requires_grad_(), "vector": random(generator, 4).requires_grad_()}
start = {name: value.detach().clone() for name, value in parameters.items()}
optimizer = torch.optim.AdamW(
    [{"params": parameters["matrix"], "weight_decay": DECAY}, {"params": parameters["vector"], "weight_decay": 0.0}],
    lr=LEARNING_RATE,
    betas=(0.9, 0.999),
    eps=1e-8,
)
steps = []
for scale in (2.0, 0.05, 0.7):
    gradients = {name: random(generator, *value.shape, scale=scale) for name, value in parameters.items()}
    for name, value in parameters.items():
        value.grad = gradients[name].clone()
    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP)
    assert (norm > CLIP) == (scale > 0.1)
    optimizer.step()
    after = {name: value.detach().clone() for name, value in parameters.items()}
    steps.append({"gradients": gradients, "norm": norm, "parameters": after})

options = {"learningRate": LEARNING_RATE, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weightDecay": DECAY, "clip": CLIP}
write("adamw.json", f"torch {torch.__version__}, float64", {**options, "start": start, "steps": steps})

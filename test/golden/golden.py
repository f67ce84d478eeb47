"""Shared by the scripts that make the numbers in this folder: plain inputs, rounded outputs."""
import json
import pathlib

import torch

torch.set_default_dtype(torch.float64)

DIGITS = 9


def three_decimals(values):
    """So that the file says exactly what was computed with."""
    return (values * 1000).round() / 1000


def random(generator, *shape, scale=1.0, mean=0.0):
    return three_decimals(mean + scale * torch.randn(*shape, generator=generator))


def rounded(value):
    """Tensors as nested lists, numbers to DIGITS significant digits; what is 0 but for rounding errors is 0."""
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        value = 0.0 if abs(value) < 1e-12 else float(f"{value:.{DIGITS}g}")
        return int(value) if value.is_integer() else value
    return value


def write(name, by, content):
    """Writes NAME beside the scripts; prettier lays it out."""
    file = pathlib.Path(__file__).parent / name
    file.write_text(json.dumps({"by": by, **rounded(content)}) + "\n")

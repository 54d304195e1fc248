"""The library example of the README runs as it is printed."""

import re
from pathlib import Path

import torch
from torch import nn

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_eight_lines_train_a_gate():
    (example,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.M | re.S)
    assert len([line for line in example.splitlines() if line.strip()]) == 8
    dim = 8
    block = nn.TransformerEncoderLayer(dim, 2, 16, batch_first=True)
    x = torch.randn(2, 5, dim)
    valid = torch.ones(2, 5, dtype=torch.bool)
    names = {"block": block, "dim": dim, "x": x, "valid": valid, "task_loss": lambda out: out.sum()}
    exec(example, names)
    assert names["output"].shape == x.shape and names["cost"].shape == valid.shape
    names["loss"].backward()
    learns = [*block.parameters(), *names["loop"].rule.parameters()]
    assert all(each.grad is not None for each in learns)

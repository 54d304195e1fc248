"""Parameters of a model, part by part."""

from torch import nn

from act.models.looped_model import LoopedModel

_PARTS = {
    "embedding": "embeddings",
    "position_embedding": "position embeddings",
    "norm": "final norm",
    "head": "output head",
}
"""What parts of a model are called, where not as in its code."""


def parameters_by_part(model: LoopedModel) -> dict[str, int]:
    """How many each part has, in the order in which they run, no tied weight twice; "total" is the
    last."""
    loop = model.recurrence
    parts: dict[str, nn.Module] = {}
    for child, part in model.named_children():
        if part is loop:
            parts["looped block"] = loop.block
            parts["halting rule"] = loop.rule
            if isinstance(loop.readout, nn.Module):
                parts["readout"] = loop.readout
        else:
            parts[_PARTS.get(child, child.replace("_", " "))] = part
    counts: dict[str, int] = {}
    seen: set[int] = set()
    for name, part in parts.items():
        new = [each for each in part.parameters() if id(each) not in seen]
        seen.update(map(id, new))
        if new or name in ("embeddings", "looped block", "halting rule", "output head"):
            counts[name] = sum(each.numel() for each in new)
    return {**counts, "total": sum(each.numel() for each in model.parameters())}

"""What of a recipe goes when a flag chooses another rule or cost."""

from training.config.parts import ROLES, resolve
from training.config.run_config import RunConfig
from training.config.sections import Part


def replaced_parts(recipe: RunConfig, config: RunConfig) -> str | None:
    """In one line, which of the recipe's readout, cost and penalty have gone with its rule or its
    cost, and what stands there now; None where none has.

    Args:
        recipe: as it was before the flags.
        config: as the flags have made it.
    """
    rule = _class("halting", config.halting)
    cost = _class("cost", config.cost) or getattr(rule, "default_cost", None)
    readout = (
        _class("readout", config.readout)
        or getattr(cost, "default_readout", None)
        or getattr(rule, "default_readout", None)
    )
    gone = []
    if recipe.readout is not None and _class("readout", recipe.readout) is not readout:
        gone.append(f"readout {_name(recipe.readout)} → {_called(readout)}")
    if recipe.cost is not None and _class("cost", recipe.cost) is not cost:
        gone.append(f"cost {_name(recipe.cost)} → {_called(cost)}")
    before = recipe.penalty.value
    if before is not None and config.penalty.value is None:
        own = "none" if cost is None else f"{cost.default_penalty:g}, the cost's own"
        gone.append(f"penalty {before:g} → {own}")
    if not gone:
        return None
    chosen = [
        f"{role.flag('kind')} {_name(part)}"
        for role, part, old in (
            (ROLES["halting"], config.halting, recipe.halting),
            (ROLES["cost"], config.cost, recipe.cost),
        )
        if part is not None and (old is None or part.kind != old.kind)
    ]
    return f"{' and '.join(chosen) or 'the flags'} replaced the recipe's {', '.join(gone)}"


def _class(role: str, part: Part | None) -> type | None:
    return None if part is None else resolve(part.kind, ROLES[role].base)


def _name(part: Part) -> str:
    return part.kind.rpartition("/")[2]


def _called(cls: type | None) -> str:
    return "none" if cls is None else cls.__name__

"""What moves depth in a run: the flags that its rule and its cost really have."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from halting.costs.cost import PonderCost
from halting.rule import HaltingRule
from training.config.parts import resolve, signature_fields
from training.ponder_penalty import coefficient

if TYPE_CHECKING:
    from training.config.run_config import RunConfig

_DEEP = -3.0  # 21 steps until the hazards sum to one: docs/halting_rules.md


@dataclass(frozen=True)
class Remedies:
    """Flags that a message may name, in words: "A or B".

    Args:
        deeper: they make tokens take more steps.
        shallower: fewer.
        lighter: they make a penalty weigh less.
        others: another setting of what decides depth, where it does not follow the difficulty.
        bias: the value of --halting.bias-init from which a run would begin deeper; None where there
            is no such flag.
    """

    deeper: str = "--halting.bias-init -3 or a lower --penalty.value"
    shallower: str = "a higher --penalty.value or --halting.bias-init"
    lighter: str = "a lower --penalty.value or a longer --penalty.warmup"
    others: str = "another --penalty.value"
    bias: float | None = _DEEP


def remedies(config: "RunConfig", cost: PonderCost | None) -> Remedies:
    """Those of a run: a rule without a bias, or a cost that does not press to stop early, is not
    told to change it."""
    rule = resolve(config.halting.kind, HaltingRule)
    known = {option.name: option.default for option in signature_fields(rule)}
    bias = None
    knobs = _knobs(config, cost)
    deeper = [knob[0] for knob in knobs]
    shallower = [knob[1] for knob in knobs]
    if "bias_init" in known:
        now = float(config.halting.options.get("bias_init", known["bias_init"]))  # pyright: ignore[reportArgumentType]
        bias = min(_DEEP, now - 2)
        deeper.insert(0, f"--halting.bias-init {bias:g}")
        shallower.append("a higher --halting.bias-init")
    if "q" in known:
        deeper.append("a higher --halting.q")
        shallower.append("a lower --halting.q")
    elif "threshold" in known and not knobs:
        deeper.append("another --halting.threshold")
        shallower.append("another --halting.threshold")
    return Remedies(
        _either(deeper or ["--halting.min-steps 2"]),
        _either(shallower or [f"--loop.max-steps {max(1, config.loop.max_steps // 2)}"]),
        _either([*(knob[0] for knob in knobs), *_longer(config)]),
        _either([knob[2] for knob in knobs] or ["another --halting.kind"]),
        bias,
    )


def deeper_flags(config: "RunConfig", cost: PonderCost | None) -> str:
    """As one types them: a lower bias and a tenth of the penalty, as far as there are such; else a
    least depth."""
    flags = []
    if (bias := remedies(config, cost).bias) is not None:
        flags.append(f"--halting.bias-init {bias:g}")
    by_hand = config.penalty.target_steps is None and config.penalty.ramp is None
    if cost is not None and cost.warms_up and by_hand:
        flags.append(f"--penalty.value {coefficient(config.penalty.value, cost) / 10:.1g}")
    return " ".join(flags or ["--halting.min-steps 2"])


def _knobs(config: "RunConfig", cost: PonderCost | None) -> list[tuple[str, str, str]]:
    """The flag by which the cost moves depth: to more steps, to fewer, and to others."""
    if cost is None:
        return []
    if config.penalty.target_steps is not None:
        flag = "--penalty.target-steps"
        return [(f"a higher {flag}", f"a lower {flag}", f"another {flag}")]
    if config.penalty.ramp is not None:
        return [("a lower --penalty.ramp", "a higher --penalty.ramp", "another --penalty.ramp")]
    if cost.warms_up:
        return [("a lower --penalty.value", "a higher --penalty.value", "another --penalty.value")]
    if cost.steered_by is not None:
        flag = f"--cost.{cost.steered_by}".replace("_", "-")
        return [(f"a higher {flag}", f"a lower {flag}", f"another {flag}")]
    return []


def _longer(config: "RunConfig") -> list[str]:
    return [] if config.penalty.target_steps is not None else ["a longer --penalty.warmup"]


def _either(words: list[str]) -> str:
    return " or ".join(words)

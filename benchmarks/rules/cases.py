"""Rules, and how each is trained."""

from dataclasses import dataclass
from typing import Literal

from benchmarks.harness.trainings import Training


@dataclass(frozen=True)
class Case:
    """One rule, and how it is trained.

    Args:
        name: of the row.
        flags: of `ponder train pointer_chase`, beside the seed.
        second: flags of a second stage, which starts from the weights of the first.
        over: what its steps are to follow the difficulty over, "tokens", "ponder" (tokens, by the
            depth that the rule means), "sequences", or "nothing" for a fixed depth.
    """

    name: str
    flags: tuple[str, ...]
    second: tuple[str, ...] | None = None
    over: Literal["tokens", "ponder", "sequences", "nothing"] = "tokens"

    @property
    def options(self) -> str:
        """Its last stage's flags beside the rule."""
        return " ".join((self.second or self.flags)[2:])

    def training(self, seed: int, quick: bool) -> Training:
        """One of its trainings."""
        stages = [self.flags] if self.second is None else [self.flags, self.second]
        return Training(
            self.name, seed, tuple(("pointer_chase", *flags) for flags in stages), quick
        )


def _rule(name: str, *flags: str) -> tuple[str, ...]:
    return ("--halting.kind", name, *flags)


_SIX = ("--loop.max-steps", "6")
_EXIT_GATE = _rule("ExitGate", *_SIX)

CASES = (
    Case("FixedSteps", _rule("FixedSteps", "--loop.max-steps", "4"), over="nothing"),
    Case("GravesACT", _rule("GravesACT")),
    Case(
        "UniversalTransformerACT",
        _rule("UniversalTransformerACT", "--halting.bias-init", "-1"),
        over="ponder",
    ),
    Case("PonderNet", _rule("PonderNet", "--penalty.value", "0.1")),
    Case("ExitGate", _EXIT_GATE),
    Case(
        "ExitGate, second stage",
        _EXIT_GATE,
        (
            *_rule("ExitGate", *_SIX, "--halting.q", "0.8"),
            *(
                "--train-only",
                "rule",
                "--cost.kind",
                "GateTarget",
                "--readout.kind",
                "DeepSupervision",
            ),
            *("--updates", "500"),
        ),
    ),
    Case("StickBreaking", _rule("StickBreaking", "--penalty.value", "0.0003")),
    Case("ExpertChoiceRouter", _rule("ExpertChoiceRouter", *_SIX, "--halting.alpha", "1")),
    Case(
        "TokenChoiceRouter",
        _rule(
            "TokenChoiceRouter",
            *_SIX,
            "--halting.warmup",
            "500",
            "--model.prelude-layers",
            "1",
            "--updates",
            "2000",
        ),
    ),
    Case("QHalt", _rule("QHalt", "--loop.max-steps", "5", "--updates", "3500"), over="sequences"),
    Case(
        "CorrectnessHalt",
        _rule("CorrectnessHalt", *_SIX, "--halting.threshold", "0.9"),
        over="sequences",
    ),
    Case(
        "EarlyExitClassifier",
        _rule(
            "EarlyExitClassifier", *_SIX, "--halting.min-steps", "3", "--halting.threshold", "0.99"
        ),
    ),
)

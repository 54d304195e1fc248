"""Halting rules, exit mass, readouts, ponder costs and ponder maps: all about when to stop, nothing
about models."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halting.costs.correctness import Correctness
    from halting.costs.cost import PonderCost, StepOutcomes
    from halting.costs.expected_steps import ExpectedSteps
    from halting.costs.gate_target import GateTarget
    from halting.costs.geometric_prior import GeometricPrior
    from halting.costs.load_balance import LoadBalance
    from halting.costs.next_step_helps import NextStepHelps
    from halting.costs.q_learning import QLearning
    from halting.costs.same_answer import SameAnswer
    from halting.costs.steps_plus_remainder import StepsPlusRemainder
    from halting.costs.teacher_exit import TeacherExit
    from halting.costs.top_k_target import TopKTarget
    from halting.costs.uniform_prior import UniformPrior
    from halting.costs.updates_plus_remainder import UpdatesPlusRemainder
    from halting.errors import UsageError
    from halting.exit_threshold import ExitThreshold
    from halting.exponential_blend import ExponentialBlend
    from halting.gate import Gate
    from halting.maps.ponder_map import PonderMap
    from halting.mass import halting_dtype, settle
    from halting.readout import DeepSupervision, EveryStep, FinalState, Readout, WeightedMean
    from halting.rule import HaltingRule
    from halting.rules.confidence_exit import ConfidenceExit
    from halting.rules.convergence_exit import ConvergenceExit
    from halting.rules.correctness_halt import CorrectnessHalt
    from halting.rules.early_exit_classifier import EarlyExitClassifier
    from halting.rules.exit_gate import ExitGate
    from halting.rules.expert_choice_router import ExpertChoiceRouter
    from halting.rules.fixed_steps import FixedSteps
    from halting.rules.graves_act import GravesACT
    from halting.rules.lookahead_depth import LookaheadDepth
    from halting.rules.ponder_net import PonderNet
    from halting.rules.q_halt import QHalt
    from halting.rules.stick_breaking import StickBreaking
    from halting.rules.token_choice_router import TokenChoiceRouter
    from halting.rules.universal_transformer_act import UniversalTransformerACT
    from halting.step import Memory, StepDecision, StepView, keep_rows
    from halting.trace import LoopTrace, PackedSteps
    from halting.wrappers.distilled_exit import DistilledExit
    from halting.wrappers.exit_by import ExitBy
    from halting.wrappers.max_steps import MaxSteps
    from halting.wrappers.min_steps import MinSteps
    from halting.wrappers.one_ahead import OneAhead
    from halting.wrappers.per_sequence import PerSequence
    from halting.wrappers.stop_at import StopAt

__all__ = [
    "ConfidenceExit",
    "ConvergenceExit",
    "Correctness",
    "CorrectnessHalt",
    "DeepSupervision",
    "DistilledExit",
    "EarlyExitClassifier",
    "EveryStep",
    "ExitBy",
    "ExitGate",
    "ExitThreshold",
    "ExpectedSteps",
    "ExpertChoiceRouter",
    "ExponentialBlend",
    "FinalState",
    "FixedSteps",
    "Gate",
    "GateTarget",
    "GeometricPrior",
    "GravesACT",
    "HaltingRule",
    "LoadBalance",
    "LookaheadDepth",
    "LoopTrace",
    "MaxSteps",
    "Memory",
    "MinSteps",
    "NextStepHelps",
    "OneAhead",
    "PackedSteps",
    "PerSequence",
    "PonderCost",
    "PonderMap",
    "PonderNet",
    "QHalt",
    "QLearning",
    "Readout",
    "SameAnswer",
    "StepDecision",
    "StepOutcomes",
    "StepView",
    "StepsPlusRemainder",
    "StickBreaking",
    "StopAt",
    "TeacherExit",
    "TokenChoiceRouter",
    "TopKTarget",
    "UniformPrior",
    "UniversalTransformerACT",
    "UpdatesPlusRemainder",
    "UsageError",
    "WeightedMean",
    "halting_dtype",
    "keep_rows",
    "settle",
]

_HOMES = {
    "ConfidenceExit": "halting.rules.confidence_exit",
    "ConvergenceExit": "halting.rules.convergence_exit",
    "Correctness": "halting.costs.correctness",
    "CorrectnessHalt": "halting.rules.correctness_halt",
    "DeepSupervision": "halting.readout",
    "DistilledExit": "halting.wrappers.distilled_exit",
    "EarlyExitClassifier": "halting.rules.early_exit_classifier",
    "EveryStep": "halting.readout",
    "ExitBy": "halting.wrappers.exit_by",
    "ExitGate": "halting.rules.exit_gate",
    "ExitThreshold": "halting.exit_threshold",
    "ExpectedSteps": "halting.costs.expected_steps",
    "ExpertChoiceRouter": "halting.rules.expert_choice_router",
    "ExponentialBlend": "halting.exponential_blend",
    "FinalState": "halting.readout",
    "FixedSteps": "halting.rules.fixed_steps",
    "Gate": "halting.gate",
    "GateTarget": "halting.costs.gate_target",
    "GeometricPrior": "halting.costs.geometric_prior",
    "GravesACT": "halting.rules.graves_act",
    "HaltingRule": "halting.rule",
    "LoadBalance": "halting.costs.load_balance",
    "LookaheadDepth": "halting.rules.lookahead_depth",
    "LoopTrace": "halting.trace",
    "MaxSteps": "halting.wrappers.max_steps",
    "Memory": "halting.step",
    "MinSteps": "halting.wrappers.min_steps",
    "NextStepHelps": "halting.costs.next_step_helps",
    "OneAhead": "halting.wrappers.one_ahead",
    "PackedSteps": "halting.trace",
    "PerSequence": "halting.wrappers.per_sequence",
    "PonderCost": "halting.costs.cost",
    "PonderMap": "halting.maps.ponder_map",
    "PonderNet": "halting.rules.ponder_net",
    "QHalt": "halting.rules.q_halt",
    "QLearning": "halting.costs.q_learning",
    "Readout": "halting.readout",
    "SameAnswer": "halting.costs.same_answer",
    "StepDecision": "halting.step",
    "StepOutcomes": "halting.costs.cost",
    "StepView": "halting.step",
    "StepsPlusRemainder": "halting.costs.steps_plus_remainder",
    "StickBreaking": "halting.rules.stick_breaking",
    "StopAt": "halting.wrappers.stop_at",
    "TeacherExit": "halting.costs.teacher_exit",
    "TokenChoiceRouter": "halting.rules.token_choice_router",
    "TopKTarget": "halting.costs.top_k_target",
    "UniformPrior": "halting.costs.uniform_prior",
    "UniversalTransformerACT": "halting.rules.universal_transformer_act",
    "UpdatesPlusRemainder": "halting.costs.updates_plus_remainder",
    "UsageError": "halting.errors",
    "WeightedMean": "halting.readout",
    "halting_dtype": "halting.mass",
    "keep_rows": "halting.step",
    "settle": "halting.mass",
}


def __getattr__(name: str):
    # Late: the errors and the ponder maps need no torch, and `ponder --help` no rule.
    if name in _HOMES:
        found = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return found
    raise AttributeError(f"module 'halting' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

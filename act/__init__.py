"""Looped Transformers: one weight-tied block applied again and again, with compute that follows the halting."""

from act.backprop import Backprop, Checkpointed, LastSteps, Truncated
from act.block import Block, LoopBlock, PlainBlock
from act.cache import FunctionalCache, InPlaceCache, KeyValueCache, StepwiseCache
from act.generation import Generation, generate
from act.gru_block import GRUBlock
from act.model import LoopedTransformer, ModelOutput
from act.recurrence import Recurrence
from act.rewinding_cache import RewindingCache
from act.slots import Slots

__all__ = [
    "Backprop",
    "Block",
    "Checkpointed",
    "FunctionalCache",
    "GRUBlock",
    "Generation",
    "InPlaceCache",
    "KeyValueCache",
    "LastSteps",
    "LoopBlock",
    "LoopedTransformer",
    "ModelOutput",
    "PlainBlock",
    "Recurrence",
    "RewindingCache",
    "Slots",
    "StepwiseCache",
    "Truncated",
    "generate",
]

"""Looped Transformers: one weight-tied block applied again and again, with compute that follows the
halting."""

from act.blocks.block import Block, LoopBlock
from act.blocks.gru import GRUBlock
from act.blocks.plain import PlainBlock
from act.caches.cache import FunctionalCache, InPlaceCache, KeyValueCache, StepwiseCache
from act.caches.rewinding import RewindingCache
from act.decoding.generate import Generation, generate
from act.loop.backprop import Backprop, Checkpointed, LastSteps, Truncated
from act.loop.recurrence import Recurrence
from act.models.looped_model import LoopedModel, ModelOutput
from act.models.looped_transformer import LoopedTransformer
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
    "LoopedModel",
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

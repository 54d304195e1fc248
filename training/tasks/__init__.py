"""Tasks: what there is to learn, with the difficulty of each token where it is known."""

from training.tasks.addition import Addition
from training.tasks.babi import Babi
from training.tasks.parity import Parity
from training.tasks.parity_vector import ParityVector
from training.tasks.pointer_chase import PointerChase
from training.tasks.task import IGNORE, SPLITS, Batch, Task
from training.tasks.text_bytes import TextBytes
from training.tasks.tokens import Tokens

__all__ = [
    "IGNORE",
    "SPLITS",
    "Addition",
    "Babi",
    "Batch",
    "Parity",
    "ParityVector",
    "PointerChase",
    "Task",
    "TextBytes",
    "Tokens",
]

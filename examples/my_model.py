"""A whole model of your own in one file: tokens with their neighbour before them, the loop, a head
of two layers.

ponder train pointer_chase --model.kind examples/my_model.py:MyModel --model.block GRUBlock
"""

import torch
from torch import Tensor, nn

from act import LoopedModel, ModelOutput, Recurrence
from halting import UsageError


class MyModel(LoopedModel):
    """Embeds each token together with the one before it and its position, loops, and answers
    through a hidden layer.

    Args:
        vocab_size, max_length, causal, recurrence: the run hands them over; `recurrence` is the
            loop ready made, of the block and the rule that it was told.
        width: D, of the states.
        hidden: width of the layer between the loop and the answers.
        dropout: what share of the hidden layer is left out in training.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        recurrence: Recurrence,
        width: int = 64,
        hidden: int = 128,
        dropout: float = 0.0,
        causal: bool = False,
    ):
        super().__init__()
        if hidden < 1:
            raise UsageError(f"hidden is {hidden}.", "It is a width.", "Write 1 or more.")
        self.width = width
        self.causal = causal
        self.max_length = max_length
        self.embedding = nn.Embedding(vocab_size, width)
        self.before = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(max_length, width)
        self.recurrence = recurrence
        self.head = nn.Sequential(
            nn.RMSNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, vocab_size),
        )

    def forward(
        self,
        tokens: Tensor,
        valid: Tensor | None = None,
        *,
        max_steps: int | None = None,
        record_lens: bool = False,
    ) -> ModelOutput:
        self.check_length(tokens.shape[1])
        tokens = tokens if valid is None else torch.where(valid, tokens, 0)
        before = torch.cat((tokens[:, :1], tokens[:, :-1]), dim=1)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embedding(tokens) + self.before(before) + self.positions(places)  # [B L D]
        states, trace = self.recurrence(x, valid, max_steps=max_steps, record_lens=record_lens)
        return self.output(states, trace, record_lens)

    def read(self, state: Tensor) -> Tensor:
        return self.head(state)

"""A whole looped Transformer: embedding, prelude, the loop, coda, output head."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from act.blocks.block import AttentionLayout, Block, LoopBlock
from act.blocks.gru import GRUBlock
from act.caches.cache import FunctionalCache, InPlaceCache, KeyValueCache, StepwiseCache
from act.context import NO_CONTEXT, LoopContext
from act.layers.feed_forward import FeedForwardKind
from act.layers.norm import NormKind, norm
from act.loop.backprop import Backprop
from act.loop.recurrence import Recurrence
from act.slots import LoopPath, Slots, check_valid
from halting.errors import UsageError
from halting.readout import Readout
from halting.rule import HaltingRule
from halting.trace import LoopTrace, PackedSteps


class ModelOutput(NamedTuple):
    """What a looped Transformer says.

    Args:
        logits: [B L V].
        trace: the record of the loop.
        step_logits: logits [M V] of every executed step, packed: had the token stopped there.
            Present when the readout trains every step, or when a lens was asked for.
        step_weights: [B L N] what each step's own loss weighs, where the readout trains every step.
    """

    logits: Tensor
    trace: LoopTrace
    step_logits: PackedSteps | None
    step_weights: Tensor | None = None


class DecodingCaches(NamedTuple):
    """Keys and values of all parts of a causal model, for decoding."""

    prelude: InPlaceCache
    loop: KeyValueCache
    coda: InPlaceCache


class LoopedTransformer(nn.Module):
    """Embedding, a prelude that runs once, a weight-tied block that loops until its rule lets each
    token go, a coda that runs once, and a linear head.

    Args:
        vocab_size: V, the answers, and the tokens that are read unless `vector_size` is given.
        dim: D.
        num_heads: H.
        rule: who leaves the loop when.
        readout: how a token's states become its output; the rule's default if None.
        max_steps: N, the step limit.
        causal: a decoder (each token sees earlier ones) or an encoder.
        num_layers: distinct layers in the looped block; `prelude_layers` before and `coda_layers`
            after it.
        positions: "rotary", "learned" (up to max_length), or "none".
        max_length: the longest sequence, for learned positions.
        tie_embeddings: the head shares the embedding's weight.
        block_kind: what is looped: "transformer" layers, or one "gru" cell, which mixes no
            positions and has its own way to take the loop's inputs in (`injection`, `step_signal`,
            `num_layers` do not concern it).
        vector_size: K, where each position reads a vector of K numbers instead of a token; the
            embedding is then a linear map, and nothing can be tied to it.
        path, backprop: of the recurrence.
        The other arguments are `Block`'s.

    Raises:
        UsageError: for parts that cannot work together.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        num_heads: int,
        rule: HaltingRule,
        readout: Readout | None = None,
        *,
        max_steps: int,
        causal: bool = False,
        num_layers: int = 1,
        prelude_layers: int = 0,
        coda_layers: int = 0,
        num_kv_heads: int | None = None,
        positions: Literal["rotary", "learned", "none"] = "rotary",
        max_length: int | None = None,
        feed_forward: FeedForwardKind = "swiglu",
        feed_forward_width: int | None = None,
        norm_kind: NormKind = "rms",
        injection: Literal["concat", "add", "none"] = "concat",
        step_signal: Literal["sinusoidal", "none"] = "none",
        tie_embeddings: bool = False,
        block_kind: Literal["transformer", "gru"] = "transformer",
        vector_size: int | None = None,
        path: LoopPath | None = None,
        attention: AttentionLayout = "padded",
        backprop: Backprop | None = None,
    ):
        super().__init__()
        _check_coda(rule, causal, coda_layers)
        if positions == "learned" and not max_length:
            raise UsageError(
                f"Learned positions cannot be made for max_length={max_length}.",
                "Each position has a row of its own, so their number has to be known.",
                'Give max_length, the longest sequence, or use positions="rotary".',
            )
        if tie_embeddings and vector_size is not None:
            raise UsageError(
                f"tie_embeddings cannot be had with vector_size={vector_size}.",
                "The head says tokens, and the embedding reads vectors of numbers: they share no "
                "weight.",
                "Leave tie_embeddings out.",
            )

        def block(layers: int, *, looped: bool = False) -> Block:
            return Block(
                dim,
                num_heads,
                num_kv_heads=num_kv_heads,
                num_layers=layers,
                causal=causal,
                rotary=positions == "rotary",
                feed_forward=feed_forward,
                feed_forward_width=feed_forward_width,
                norm_kind=norm_kind,
                injection=injection if looped else "none",
                step_signal=step_signal if looped else "none",
                attention=attention,
            )

        self.causal = causal
        self.vector_size = vector_size
        self.embedding = (
            nn.Embedding(vocab_size, dim)
            if vector_size is None
            else nn.Linear(vector_size, dim, False)
        )
        self.position_embedding = (
            nn.Embedding(max_length or 0, dim) if positions == "learned" else None
        )
        self.prelude = block(prelude_layers)
        looped: LoopBlock = (
            GRUBlock(dim, causal) if block_kind == "gru" else block(num_layers, looped=True)
        )
        self.recurrence = Recurrence(
            looped, rule, readout, max_steps=max_steps, path=path, backprop=backprop
        )
        self.coda = block(coda_layers)
        self.norm = norm(norm_kind, dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        self._initialise(dim**-0.5 if tie_embeddings else 1.0)
        if tie_embeddings:
            self.head.weight = self.embedding.weight
        self.recurrence.head = self._read if rule.reads_logits else None

    def use(self, rule: HaltingRule, readout: Readout | None = None) -> None:
        """Puts another rule into the loop for evaluation, and another readout: the rule's default
        if None.

        Raises:
            UsageError: for parts that cannot work together.
        """
        _check_coda(rule, self.causal, len(self.coda.layers))
        self.recurrence.use(rule, readout)
        self.recurrence.head = self._read if rule.reads_logits else None

    def compile_parts(self) -> None:
        """`Block.compile_parts` for each block of Transformer layers."""
        for block in (self.prelude, self.recurrence.block, self.coda):
            if isinstance(block, Block):
                block.compile_parts()

    def _initialise(self, embedding_std: float) -> None:
        own = set(self.modules()) - set(
            self.recurrence.rule.modules()
        )  # a rule's gate starts where the rule says
        for module in self.modules():
            if module in own and isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
            elif module in own and isinstance(module, nn.Embedding):
                # N(0, 1): of the size of what each layer adds, so that the first step does not
                # drown the input (pointer_chase learns in half the updates, and steps follow
                # difficulty). A weight that is also the head's has to stay at dim^-0.5, or the
                # logits start √D times too large.
                nn.init.normal_(module.weight, std=embedding_std)

    def forward(
        self,
        tokens: Int[Tensor, "B L"] | Int[Tensor, "B L K"],
        valid: Bool[Tensor, "B L"] | None = None,
        *,
        max_steps: int | None = None,
        record_lens: bool = False,
        caches: DecodingCaches | None = None,
        positions: Int[Tensor, "B L"] | None = None,
        context: LoopContext = NO_CONTEXT,
    ) -> ModelOutput:
        """Logits and the record of the loop.

        Args:
            tokens: what is read, vectors of whole numbers where the model has a `vector_size`;
                anything on padding.
            valid: True on real tokens; None when all are.
            max_steps: another step limit for this call, also beyond the one trained with.
            record_lens: give `step_logits`, what each token would have said had it stopped at each
                step.
            caches: to decode with; `positions` then says where each token stands.
            context: what the looped block reads beside; document numbers are for all blocks.

        Raises:
            UsageError: for a sequence longer than `max_length` with learned positions, and what
                `Recurrence` refuses.
        """
        check_valid(valid, *tokens.shape[:2])
        valid = tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if valid is None else valid
        slots = Slots.of(valid, positions)
        if self.vector_size is None:
            x = self.embedding(torch.where(valid, tokens, 0))
        else:
            dtype = self.head.weight.dtype  # of the stream of states, also under autocast
            x = self.embedding(torch.where(valid.unsqueeze(-1), tokens, 0).to(dtype)).to(dtype)
        if self.position_embedding is not None:
            if positions is None:
                where = torch.arange(tokens.shape[1], device=tokens.device)
                longest = tokens.shape[1]
            else:
                where = torch.where(valid, positions, 0)
                longest = int(slots.position.max()) + 1 if len(slots) else 0
            self.check_length(longest)
            x = x + self.position_embedding(where)
        x = torch.where(valid.unsqueeze(-1), x, 0.0)
        x = _once(self.prelude, x, slots, valid, caches and caches.prelude, context)
        output, trace = self.recurrence(
            x,
            None if slots.full else valid,
            max_steps=max_steps,
            cache=caches and caches.loop,
            positions=positions,
            record_lens=record_lens,
            context=context,
        )
        mixed = _once(self.coda, output, slots, valid, caches and caches.coda, context)
        logits = self._read(mixed)
        packed = trace.lens if record_lens else trace.states
        weights = None if trace.states is None else self.recurrence.readout.loss_weights(trace)
        return ModelOutput(
            logits,
            trace,
            None if packed is None else self._read_steps(packed, trace, slots, context),
            weights,
        )

    def check_length(self, length: int) -> None:
        """Refuses sequences of more positions than were learned.

        Raises:
            UsageError: where positions are learned and `length` is beyond `max_length`.
        """
        if self.position_embedding is not None and length > self.position_embedding.num_embeddings:
            raise UsageError(
                f"A sequence of {length} positions is too long.",
                f"The model learned {self.position_embedding.num_embeddings} of them (max_length) "
                "and knows no other.",
                "Cut the sequence, or build the model with a larger max_length or "
                'positions="rotary".',
            )

    def _read(self, state: Tensor) -> Tensor:
        return self.head(self.norm(state))

    def _read_steps(
        self, packed: PackedSteps, trace: LoopTrace, slots: Slots, context: LoopContext
    ) -> PackedSteps:
        """Logits of every executed step. A coda that mixes tokens sees, at step n, who left earlier
        as they left."""
        if not len(self.coda.layers):
            return packed._replace(values=self._read(packed.values))
        batch, length = trace.valid.shape
        shown = packed.values.new_zeros(batch * length, packed.values.shape[-1])
        through: list[Tensor] = []
        for step in range(trace.num_steps):
            now = packed.step == step
            shown = shown.index_copy(0, packed.index[now], packed.values[now])
            mixed = _once(
                self.coda, shown.view(batch, length, -1), slots, trace.valid, None, context
            )
            through.append(mixed.flatten(0, 1)[packed.index[now]])
        return packed._replace(values=self._read(torch.cat(through)))

    def decoding_caches(
        self, batch: int, capacity: int, max_steps: int | None = None
    ) -> DecodingCaches:
        """Empty caches for `capacity` positions of `batch` sequences, exact at every loop step."""
        visible = torch.zeros(batch, capacity, dtype=torch.bool, device=self.head.weight.device)
        loop = StepwiseCache(visible, batch, capacity, max_steps or self.recurrence.max_steps)
        return DecodingCaches(
            InPlaceCache(visible, batch, capacity), loop, InPlaceCache(visible, batch, capacity)
        )


def _check_coda(rule: HaltingRule, causal: bool, coda_layers: int) -> None:
    if causal and coda_layers and rule.reads_logits:
        raise UsageError(
            f"{type(rule).__name__} cannot decode with coda_layers={coda_layers}.",
            "It reads logits inside the loop, and a coda that attends to other tokens gives other "
            "logits when decoding than in the parallel pass.",
            "Use coda_layers=0, or a rule that reads states, such as GravesACT.",
        )


def _once(
    block: Block,
    x: Tensor,
    slots: Slots,
    valid: Tensor,
    cache: KeyValueCache | None,
    context: LoopContext,
) -> Tensor:
    """A block run once over the valid tokens of [B L D]; 0 on padding."""
    if not len(block.layers):
        return x
    flat = x.flatten(0, 1)
    packed = flat if slots.full else flat.index_select(0, slots.index)
    cache = cache or FunctionalCache(None if slots.full else valid)
    made, _ = block(packed, slots, cache, context)
    return (
        made.view(x.shape)
        if slots.full
        else torch.zeros_like(flat).index_copy(0, slots.index, made).view(x.shape)
    )

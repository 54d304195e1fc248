"""A whole looped Transformer: embedding, prelude, the loop, coda, output head."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from act.blocks.block import AttentionLayout, Block, LoopBlock
from act.caches.cache import FunctionalCache, InPlaceCache, KeyValueCache, StepwiseCache
from act.context import NO_CONTEXT, LoopContext
from act.layers.feed_forward import FeedForwardKind
from act.layers.flops import module_flops
from act.layers.linear_cross_entropy import AnswerLosses
from act.layers.norm import NormKind, norm
from act.layers.saved_numbers import SavedNumbers, saved_by_norm
from act.loop.backprop import Backprop
from act.loop.recurrence import Recurrence
from act.loop.transforms import check_transforms
from act.models.asked_losses import AnswerHead, Answers, AskedLosses, weights_of_steps
from act.models.learned_positions import learned_positions
from act.models.looped_model import LoopedModel, ModelOutput, OutsideFlops, OutsideNumbers
from act.slots import LoopPath, Slots, check_valid
from halting.errors import UsageError
from halting.readout import Readout
from halting.rule import HaltingRule
from halting.rules.graves_act import GravesACT
from halting.trace import LoopTrace, PackedSteps


class DecodingCaches(NamedTuple):
    """Keys and values of all parts of a causal model, for decoding."""

    prelude: InPlaceCache
    loop: KeyValueCache
    coda: InPlaceCache


class LoopedTransformer(LoopedModel):
    """Embedding, a prelude that runs once, a weight-tied block that loops until its rule lets each
    token go, a coda that runs once, and a linear head.

    Args:
        vocab_size: V, the answers, and the tokens that are read unless `vector_size` is given.
        width: D, of the states.
        num_heads: H, attention heads.
        rule: who leaves the loop when; Graves' Adaptive Computation Time if None.
        readout: how a token's states become its output; the rule's default if None.
        max_steps: N, the step limit.
        block: what is looped; None for an `act.Block` of this width and these heads, with
            `block_options` such as num_layers=2.
        make_block: the same, made when its turn comes, so that weights are drawn in the order in
            which the parts run.
        causal: a decoder (each token sees earlier ones) or an encoder.
        prelude_layers: Transformer layers before the loop, run once.
        coda_layers: Transformer layers after the loop, run once.
        num_kv_heads: heads of keys and values (grouped-query attention); None for as many as there
            are heads.
        positions: how the model knows positions: "rotary", "learned" (up to max_length, from each
            document's beginning where documents are given), or "none".
        max_length: the longest sequence, for learned positions.
        feed_forward: kind of feed-forward network, "swiglu" or "gelu".
        feed_forward_width: hidden width; None for 4 × width for gelu, 8/3 × width rounded up to a
            multiple of 8 for swiglu.
        norm_kind: kind of normalisation, "rms" or "layer".
        tie_embeddings: the output head shares the embedding's weight.
        vector_size: K, where each position reads a vector of K numbers instead of a token; the
            embedding is then a linear map, and nothing can be tied to it.
        path, backprop: of the recurrence.
        attention: how packed queries attend, as in `act.Block`.
        block_options: what `act.Block` alone takes, where no block is given; its injection is
            "concat" unless told otherwise.

    Raises:
        UsageError: for parts that cannot work together.
    """

    block_defaults: ClassVar[Mapping[str, Any]] = {"injection": "concat"}

    def __init__(
        self,
        vocab_size: int,
        width: int = 64,
        num_heads: int = 4,
        rule: HaltingRule | None = None,
        readout: Readout | None = None,
        *,
        max_steps: int,
        block: LoopBlock | None = None,
        make_block: Callable[[], LoopBlock] | None = None,
        causal: bool = False,
        prelude_layers: int = 0,
        coda_layers: int = 0,
        num_kv_heads: int | None = None,
        positions: Literal["rotary", "learned", "none"] = "rotary",
        max_length: int | None = None,
        feed_forward: FeedForwardKind = "swiglu",
        feed_forward_width: int | None = None,
        norm_kind: NormKind = "rms",
        tie_embeddings: bool = False,
        vector_size: int | None = None,
        path: LoopPath | None = None,
        attention: AttentionLayout = "padded",
        backprop: Backprop | None = None,
        **block_options: Any,
    ):
        super().__init__()
        rule = GravesACT(width) if rule is None else rule
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

        if block_options and (block is not None or make_block is not None):
            raise UsageError(
                f"{', '.join(block_options)} cannot be had with a block.",
                "They are options of the `act.Block` that is made where none is given.",
                "Give them to the block, or leave the block out.",
            )

        def layers(**options: Any) -> Block:
            return Block(
                width,
                num_heads,
                num_kv_heads=num_kv_heads,
                causal=causal,
                rotary=positions == "rotary",
                feed_forward=feed_forward,
                feed_forward_width=feed_forward_width,
                norm_kind=norm_kind,
                attention=attention,
                **options,
            )

        def looped() -> LoopBlock:
            if block is not None:
                return block
            if make_block is not None:
                return make_block()
            return layers(**{**self.block_defaults, **block_options})

        self.width = width
        self.max_length = max_length if positions == "learned" else None
        self.mixes_after_loop = coda_layers > 0
        self.causal = causal
        self.vector_size = vector_size
        self.embedding = (
            nn.Embedding(vocab_size, width)
            if vector_size is None
            else nn.Linear(vector_size, width, False)
        )
        self.position_embedding = (
            nn.Embedding(max_length or 0, width) if positions == "learned" else None
        )
        self.prelude = layers(num_layers=prelude_layers)
        self.recurrence = Recurrence(
            looped(), rule, readout, max_steps=max_steps, path=path, backprop=backprop
        )
        self.coda = layers(num_layers=coda_layers)
        self.norm = norm(norm_kind, width)
        self.head = AnswerHead(width, vocab_size, bias=False)
        self._initialise(width**-0.5 if tie_embeddings else 1.0)
        if tie_embeddings:
            self.head.weight = self.embedding.weight
        self.recurrence.head = self.read if rule.reads_logits else None

    def use(self, rule: HaltingRule, readout: Readout | None = None) -> None:
        """Puts another rule into the loop for evaluation, and another readout: the rule's default
        if None.

        Raises:
            UsageError: for parts that cannot work together.
        """
        _check_coda(rule, self.causal, len(self.coda.layers))
        super().use(rule, readout)

    def _initialise(self, embedding_std: float) -> None:
        # A rule's gate starts where the rule says, and so does a block that says it.
        own = set(self.modules()) - set(self.recurrence.rule.modules())
        if self.recurrence.block.own_initialisation:
            own -= set(self.recurrence.block.modules())
        for module in self.modules():
            if module in own and isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
            elif module in own and isinstance(module, nn.Embedding):
                # N(0, 1): of the size of what each layer adds, so that the first step does not
                # drown the input (pointer_chase learns in half the updates, and steps follow
                # difficulty). A weight that is also the head's has to stay at width^-0.5, or the
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
        documents: Int[Tensor, "B L"] | None = None,
        context: LoopContext = NO_CONTEXT,
        asked: AskedLosses | None = None,
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
            documents: the document of each position, of which tokens see their own alone; the same
                as in `context`.
            context: what the looped block reads beside; document numbers are for all blocks.
            asked: losses that are wanted instead of logits.

        Raises:
            UsageError: for a sequence longer than `max_length` with learned positions, and what
                `Recurrence` refuses.
        """
        check_transforms(tokens, self.parameters)
        check_valid(valid, *tokens.shape[:2])
        if documents is not None:
            context = replace(context, documents=documents)
        valid = tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if valid is None else valid
        slots = Slots.of(valid, positions)
        if self.vector_size is None:
            x = self.embedding(torch.where(valid, tokens, 0))
        else:
            dtype = self.head.weight.dtype  # of the stream of states, also under autocast
            x = self.embedding(torch.where(valid.unsqueeze(-1), tokens, 0).to(dtype)).to(dtype)
        if self.position_embedding is not None:
            where, longest = learned_positions(slots, positions, context.documents)
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
        packed = trace.lens if record_lens else trace.states
        if asked is not None:
            steps = packed if asked.of_steps else None
            answered = self._answer(asked, mixed, steps, trace, slots, context)
            none = mixed[:0]  # through which a backward passes the loop's output, as with logits
            return ModelOutput(none, trace, None, self.step_weights(trace), answered)
        logits = self.read(mixed)
        if packed is not None:
            states = self._states_of_steps(packed, trace, slots, context)
            packed = packed._replace(values=self.read(states))
        return ModelOutput(logits, trace, packed, self.step_weights(trace))

    def read(self, state: Tensor) -> Tensor:
        return self.head(self.norm(state))

    def _answer(
        self,
        asked: AskedLosses,
        mixed: Tensor,
        packed: PackedSteps | None,
        trace: LoopTrace,
        slots: Slots,
        context: LoopContext,
    ) -> Answers:
        """The losses that were asked for: of the output, or of every executed step."""
        targets = asked.targets.flatten()
        if packed is None:
            weights = None if asked.weights is None else asked.weights.flatten()
            found = self._losses(mixed.flatten(0, 1), targets, weights, asked.label_smoothing)
            shape = asked.targets.shape
            return Answers(found.total, found.losses.view(shape), found.predictions.view(shape))
        by_step = self.step_weights(trace)
        states = self._states_of_steps(packed, trace, slots, context, asked.of_left)
        if asked.of_left:
            packed = _at_every_step(slots, trace.num_steps, states)
        weights = weights_of_steps(asked, packed, trace.mass if by_step is None else by_step)
        found = self._losses(states, targets[packed.index], weights, asked.label_smoothing)
        return Answers(*found, packed)

    def _losses(
        self, states: Tensor, targets: Tensor, weights: Tensor | None, label_smoothing: float
    ) -> AnswerLosses:
        found = self.head(self.norm(states), targets, weights, label_smoothing)
        assert isinstance(found, AnswerLosses)
        return found

    def _states_of_steps(
        self,
        packed: PackedSteps,
        trace: LoopTrace,
        slots: Slots,
        context: LoopContext,
        of_left: bool = False,
    ) -> Tensor:
        """What the head reads of every executed step; with `of_left`, of every token at every step.
        A coda that mixes tokens sees, at step n, who left earlier as they left."""
        if not len(self.coda.layers) and not of_left:
            return packed.values
        batch, length = trace.valid.shape
        shown = packed.values.new_zeros(batch * length, packed.values.shape[-1])
        through: list[Tensor] = []
        for step in range(trace.num_steps):
            now = packed.step == step
            shown = shown.index_copy(0, packed.index[now], packed.values[now])
            mixed = _once(
                self.coda, shown.view(batch, length, -1), slots, trace.valid, None, context
            )
            through.append(mixed.flatten(0, 1)[slots.index if of_left else packed.index[now]])
        return torch.cat(through)

    def outside_flops(self, length: int) -> OutsideFlops:
        return OutsideFlops(
            embedding=module_flops(self.embedding),  # a linear map of vectors; a table is free
            prelude=module_flops(self.prelude, length),
            coda=module_flops(self.coda, length),
            head=module_flops(self.head),
        )

    def outside_numbers(self) -> OutsideNumbers:
        normed = saved_by_norm(self.norm)
        return OutsideNumbers(
            self.prelude.saved_numbers(),
            self.coda.saved_numbers(),
            normed + self.head.saved_by_logits(),
            SavedNumbers(wide=normed.wide) + self.head.saved_by_losses(),
            self.head.weight.numel(),
        )

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


def _at_every_step(slots: Slots, num_steps: int, values: Tensor) -> PackedSteps:
    """Values of every token at every step, step by step."""
    steps = torch.arange(num_steps, device=values.device)
    return PackedSteps(values, slots.index.repeat(num_steps), steps.repeat_interleave(len(slots)))


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

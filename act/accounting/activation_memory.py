"""The activations of a backward pass, as an estimate. (`training.resources.zero_memory` has the
rest of a rank.)"""

from dataclasses import dataclass

from torch import nn

from act.blocks.block import Block, Layer
from act.blocks.gru import GRUBlock
from act.layers.feed_forward import FeedForward
from act.models.looped_transformer import LoopedTransformer

_FLOAT = 4
_HALF = 2
_LEDGER = 12  # numbers a token and step: mass, score, what remains, place and step


@dataclass(frozen=True)
class _Floats:
    """Numbers a token that autograd keeps: those that stay float32 under autocast, and those that
    become bfloat16."""

    wide: int = 0
    narrow: int = 0

    def __add__(self, other: "_Floats") -> "_Floats":
        return _Floats(self.wide + other.wide, self.narrow + other.narrow)

    def times(self, number: int) -> "_Floats":
        return _Floats(self.wide * number, self.narrow * number)

    def bytes(self, bf16: bool) -> int:
        return _FLOAT * self.wide + (_HALF if bf16 else _FLOAT) * self.narrow


def activation_bytes(
    model: LoopedTransformer,
    tokens: int,
    steps: int,
    *,
    checkpointed: bool = False,
    bf16: bool = False,
    stage: int = 0,
) -> int:
    """Bytes that autograd keeps between a forward pass and its backward pass: an estimate.

    It counts what the layers save for their gradients, with no token halting before `steps` and
    attention that does not keep its L × L matrix. Fewer steps, shorter rows and fused kernels need
    less; batches with padding need up to one copy of the keys and values more each step.

    Args:
        model: any looped Transformer; its parameters may be on the meta device.
        tokens: B · L of one forward pass, padding included.
        steps: how many steps every token takes.
        checkpointed: keep each step's input alone, for no token halts; one step at a time is
            computed again.
        bf16: under autocast; the bfloat16 copies of the weights are then counted as well.
        stage: the ZeRO stage, on which the number of those copies depends.
    """
    dim = model.head.in_features
    vocabulary = model.head.out_features
    block = model.recurrence.block
    keeps_states = model.recurrence.readout.keeps_states
    assert isinstance(block, Block | GRUBlock)
    answer = _norm(model.norm) + _Floats(wide=vocabulary, narrow=vocabulary)
    looped = _step(block, dim) + _Floats(wide=dim + _LEDGER)
    if checkpointed:
        kept = _Floats(wide=dim + _LEDGER).times(steps) + looped
    else:
        kept = looped.times(steps)
    kept = kept + _inside(model.prelude) + _inside(model.coda) + answer
    if keeps_states:
        kept = kept + (answer + _inside(model.coda) + _Floats(wide=dim)).times(steps)
    copies = _copied(model, 1 if checkpointed else steps, stage) if bf16 else 0
    return tokens * kept.bytes(bf16) + _HALF * copies


def _copied(model: LoopedTransformer, steps: int, stage: int) -> int:
    """Weights that autograd keeps in bfloat16. Autocast makes one copy of each; of the loop's one
    at each step under ZeRO-1 and 2, where it does not know the views that the loop is given
    (`engine.together`). Under ZeRO-3 DeepSpeed's own linear layer keeps none."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    everything = sum(module.weight.numel() for module in linear)
    looped = sum(
        module.weight.numel()
        for module in model.recurrence.modules()
        if isinstance(module, nn.Linear)
    )
    return 0 if stage == 3 else everything + (looped * (steps - 1) if stage in (1, 2) else 0)


def _step(block: Block | GRUBlock, dim: int) -> _Floats:
    """State and inputs side by side, then the layers; of a GRU cell its three gates, and what they
    multiply."""
    if isinstance(block, GRUBlock):
        return _Floats(wide=3 * dim, narrow=3 * dim)
    return _inside(block) + _Floats(narrow=2 * dim if block.injection == "concat" else 0)


def _layers(block: Block) -> list[Layer]:
    return [layer for layer in block.layers if isinstance(layer, Layer)]


def _inside(block: Block) -> _Floats:
    total = _Floats()
    for layer in _layers(block):
        total = total + _norm(layer.attention_norm) + _attention(layer, block)
        total = total + _norm(layer.feed_forward_norm) + _feed_forward(layer.feed_forward)
    return total


def _norm(module: nn.Module) -> _Floats:
    """Its input, what it makes of it, and for RMSNorm the input over its root mean square, before
    the weight."""
    [dim] = module.normalized_shape if isinstance(module, nn.RMSNorm | nn.LayerNorm) else (0,)
    return _Floats(wide=(2 if isinstance(module, nn.RMSNorm) else 1) * dim, narrow=dim)


def _attention(layer: Layer, block: Block) -> _Floats:
    """Queries, keys and values, as projected and as turned, and what comes out."""
    keys = layer.attention.num_kv_heads * layer.attention.head_dim
    turned = block.dim + keys if block.rotary_dim else 0
    return _Floats(narrow=(block.dim + 2 * keys) + turned + block.dim)


def _feed_forward(module: FeedForward) -> _Floats:
    """SwiGLU: gate, up, silu(gate) and the product. GELU: before and after."""
    return _Floats(narrow=(4 if module.kind == "swiglu" else 2) * module.down.in_features)

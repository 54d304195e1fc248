"""Memory that one rank needs under each ZeRO stage: what it holds, and where an update needs most.

Worked out from what DeepSpeed 0.19.8 does (`runtime/zero/stage_1_and_2.py`, `stage3.py`) under
torch's own AdamW, and held against a real engine: `tests/distributed/test_engine_memory.py`,
`python -m benchmarks.memory`.
"""

from dataclasses import dataclass

from torch import nn

from act.models.looped_model import LoopedModel
from training.resources.communication_volume import sent_narrow
from training.resources.zero_layout import ZeroLayout

_FLOAT = 4
_PLAIN_BUCKET = int(5e8)  # of stage 0, whatever the ds_config says: MEMORY_OPT_ALLREDUCE_SIZE


@dataclass(frozen=True)
class RankMemory:
    """Bytes on the rank that needs most, all of it float32: bf16 runs as autocast.

    Args:
        sharing: how the run is shared out.
        weights: whole; this rank's share of them at stage 3, with the small ones that stay gathered
            there.
        copy: of its share of the weights, which DeepSpeed's stages 1 to 3 update.
        optimizer: AdamW's two moments; its share from stage 1 on.
        gradients: between the backward pass and the update; its share from stage 1 on, at stages 1
            and 2 in whole tensors.
        buffers: of DeepSpeed, there all the time: stage 3's bucket; under offload what passes
            through.
        gathered: whole weights while the model runs, and between forward and backward (stage 3).
        backward: what a backward pass needs more, without activations, at its end.
        looping: the same when the backward enters the loop, where the most activations are there.
        update: what the optimizer step needs more than is held before it.
        on_cpu: how much of what is held before the update lies on the CPU under offload.
    """

    sharing: ZeroLayout
    weights: int
    copy: int
    optimizer: int
    gradients: int
    buffers: int
    gathered: int
    backward: int
    looping: int
    update: int
    on_cpu: int = 0

    @property
    def held(self) -> int:
        """After the backward pass, before the update."""
        return self.rest + self.gradients

    @property
    def rest(self) -> int:
        return self.weights + self.copy + self.optimizer + self.buffers

    def after_forward(self, activations: int) -> int:
        """What is held between a forward pass and its backward pass, the first of an update.

        Args:
            activations: bytes that autograd keeps."""
        kept = self.gradients if self.sharing.stage == 3 or self.sharing.optimizer_on_cpu else 0
        return self.rest + kept + self.gathered + activations

    def peak(self, activations: int) -> int:
        """The most that an update needs."""
        within = max(self.backward, activations + self.looping)
        gradients = (
            self.gradients if self.sharing.stage == 3 or self.sharing.optimizer_on_cpu else 0
        )
        return max(self.rest + gradients + self.gathered + within, self.held + self.update)


def rank_memory(
    model: LoopedModel,
    groups: list[list[nn.Parameter]],
    sharing: ZeroLayout,
    *,
    accumulation: int = 1,
    cpu: bool = True,
    bf16: bool = False,
) -> RankMemory:
    """What a way to share needs on each rank.

    Args:
        model: the whole model; its parameters may be on the meta device.
        groups: the trained parameters, as the optimizer groups them.
        sharing: the way.
        accumulation: micro-batches of an update.
        cpu: ranks compute on the CPU: AdamW then has two temporary tensors, on a GPU one, and gloo
            copies what it gathers.
        bf16: under autocast, where gradients that travel narrow (`traffic.sent_narrow`) have a
            bucket of their own.
    """
    sizes = _Sizes.of(model, groups)
    bf16 = bf16 and bool(sent_narrow(model))
    kinds = (_plain, _stage_1_and_2, _stage_1_and_2, _stage_3)
    return kinds[sharing.stage](sizes, sharing, accumulation, cpu, bf16)


@dataclass(frozen=True)
class _Sizes:
    """Elements.

    Args:
        everything: of the model; frozen: those that are not trained.
        groups: the sizes of the trained parameters, in the optimizer's groups.
        leaf: of the recurrence; leaf_trained: its trained ones.
        tail: trained ones after the loop.
        each: the sizes of all parameters.
    """

    everything: int
    frozen: int
    groups: list[list[int]]
    leaf: int
    leaf_trained: int
    tail: int
    each: list[int]

    @classmethod
    def of(cls, model: LoopedModel, groups: list[list[nn.Parameter]]) -> "_Sizes":
        each = [parameter.numel() for parameter in model.parameters()]
        trained = [[parameter.numel() for parameter in group] for group in groups]
        children = list(model.children())
        after = {
            id(each): each
            for part in children[children.index(model.recurrence) + 1 :]
            for each in part.parameters()
        }
        return cls(
            everything=sum(each),
            frozen=sum(each) - sum(map(sum, trained)),
            groups=trained,
            leaf=sum(parameter.numel() for parameter in model.recurrence.parameters()),
            leaf_trained=_trained(model.recurrence.parameters()),
            tail=_trained(after.values()),
            each=each,
        )

    @property
    def trained(self) -> int:
        return sum(map(sum, self.groups))

    @property
    def largest(self) -> int:
        return max((size for group in self.groups for size in group), default=0)


def _trained(parameters) -> int:
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)


def _plain(
    sizes: _Sizes, sharing: ZeroLayout, accumulation: int, cpu: bool, split: bool
) -> RankMemory:
    """Everything whole. DeepSpeed copies gradients side by side to sum them. AdamW takes parameters
    one by one on a CPU, and all together on a GPU."""
    flat = min(sizes.trained, _PLAIN_BUCKET + sizes.largest) if sharing.deepspeed else 0
    early = (
        sizes.trained + sizes.leaf_trained if accumulation > 1 else sizes.leaf_trained + sizes.tail
    )
    return RankMemory(
        sharing,
        weights=_FLOAT * sizes.everything,
        copy=0,
        optimizer=2 * _FLOAT * sizes.trained,
        gradients=_FLOAT * sizes.trained,
        buffers=0,
        gathered=0,
        backward=_FLOAT * (sizes.trained + flat),
        looping=_FLOAT * early,
        update=_FLOAT * (2 * sizes.largest if cpu else sizes.trained),
    )


def _stage_1_and_2(
    sizes: _Sizes, sharing: ZeroLayout, accumulation: int, cpu: bool, split: bool
) -> RankMemory:
    """Weights lie side by side, a group after the other, each cut into equal shares. A rank keeps
    the gradients of the parameters that touch its share, in whole."""
    ranks = sharing.ranks
    offload = sharing.optimizer_on_cpu
    shares = [_up(sum(group), 2 * ranks) // ranks for group in sizes.groups]
    share = sum(shares)
    whole = sum(shares) * ranks + sizes.frozen
    touched = _touched(sizes.groups, shares, ranks)
    buckets = sharing.bucket * (2 if split else 1)
    flat = min(sharing.bucket, sizes.trained)  # once more, to be sent
    if sharing.stage == 1:
        end = sizes.trained + buckets + flat + (0 if offload else touched)
        early = buckets + sizes.leaf_trained + (sizes.trained if accumulation > 1 else sizes.tail)
    else:
        before = touched if accumulation > 1 and not offload else 0
        end = sizes.leaf_trained + buckets + flat + (0 if offload else touched) + before
        early = buckets + sizes.leaf_trained + before
    working = 2 if cpu else 1
    biggest = max(shares, default=0)
    update = working * biggest if offload else (1 + working) * biggest
    if cpu and ranks > 1:  # gloo gathers the weights of a group into memory of its own
        update = max(update, max(shares, default=0) * ranks - (0 if offload else touched))
    apart = (
        2 * sizes.largest + share if offload else 0
    )  # two places for one gradient; the weights on their way back
    kept = touched if offload and accumulation > 1 else 0
    gradients = share if offload else touched
    return RankMemory(
        sharing,
        weights=_FLOAT * whole,
        copy=_FLOAT * share,
        optimizer=2 * _FLOAT * share,
        gradients=_FLOAT * gradients,
        buffers=_FLOAT * (apart + kept),
        gathered=0,
        backward=_FLOAT * end,
        looping=_FLOAT * early,
        update=_FLOAT * update,
        on_cpu=_FLOAT * (5 * share + sizes.largest + kept) if offload else 0,
    )


def _stage_3(
    sizes: _Sizes, sharing: ZeroLayout, accumulation: int, cpu: bool, split: bool
) -> RankMemory:
    """Each parameter is cut into equal shares. The loop is gathered as one; what is gathered lies
    side by side once more until the last of it was used."""
    ranks = sharing.ranks
    offload = sharing.optimizer_on_cpu
    shares = [sum(-(-size // ranks) for size in group) for group in sizes.groups]
    share = sum(shares)
    biggest = max(shares, default=0)
    lasting = sum(size for size in sizes.each if size <= sharing.persistence)
    moving = sizes.everything - lasting
    leaf = min(sizes.leaf, moving)
    kept = sharing.kept(moving)
    chunk = min(moving, max(leaf, sharing.prefetch))
    present = max(kept, min(moving, leaf + sharing.prefetch))
    flight = chunk * (2 if cpu else 1) if ranks > 1 else 0
    flat = min(max(sharing.bucket, sizes.largest), sizes.trained) * (2 if cpu else 1)
    buckets = sharing.bucket * (6 if split else 4)
    working = 2 if cpu else 1
    passing = share if offload else 0  # AdamW's own place for the gradients
    return RankMemory(
        sharing,
        weights=_FLOAT * (share + -(-sizes.frozen // ranks) + lasting),
        copy=_FLOAT * share,
        optimizer=2 * _FLOAT * share,
        gradients=_FLOAT * share,
        buffers=buckets + _FLOAT * passing,
        gathered=_FLOAT * kept,
        backward=_FLOAT * (present - kept + sizes.leaf_trained + flat),
        looping=_FLOAT * (present - kept + max(flight, sizes.leaf_trained + flat)),
        update=_FLOAT * (working + (0 if offload else 1)) * biggest,
        on_cpu=_FLOAT * (5 * share + (share if sharing.parameters_on_cpu else 0)) if offload else 0,
    )


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _touched(groups: list[list[int]], shares: list[int], ranks: int) -> int:
    """Elements of the parameters of which a rank has a part, for the rank that has most."""
    own = [0] * ranks
    for group, share in zip(groups, shares, strict=True):
        start = 0
        for size in group:
            for rank in range(start // share, (start + size - 1) // share + 1):
                own[rank] += size
            start += size
    return max(own)

"""What a rank sends for one update under each ZeRO stage: gradients to be summed, weights to be
gathered."""

from dataclasses import dataclass

from torch import nn

from act.models.looped_model import LoopedModel
from training.resources.zero_layout import ZeroLayout

_FLOAT = 4
_HALF = 2


@dataclass(frozen=True)
class CommunicationVolume:
    """Bytes that one rank sends for one update, by ring collectives: a sum of n bytes over all R
    ranks takes 2·(R − 1)/R·n, a gathering or a scattering sum (R − 1)/R·n.

    Args:
        sharing: how the run is shared out.
        summed: bytes that all ranks sum and all receive.
        scattered: bytes that all ranks sum, each receiving its share.
        gathered: bytes that are gathered from shares.
    """

    sharing: ZeroLayout
    summed: int
    scattered: int
    gathered: int

    @property
    def gradients(self) -> float:
        return self._part * (2 * self.summed + self.scattered)

    @property
    def weights(self) -> float:
        return self._part * self.gathered

    @property
    def sent(self) -> float:
        return self.gradients + self.weights

    @property
    def _part(self) -> float:
        return (self.sharing.ranks - 1) / self.sharing.ranks


def communication_volume(
    model: LoopedModel, sharing: ZeroLayout, *, accumulation: int = 1, bf16: bool = False
) -> CommunicationVolume:
    """What DeepSpeed 0.19.8 sends, the steps of the loop notwithstanding: the looped block is
    gathered once for all.

    Stage 1 sums gradients once an update, stage 2 after each backward pass; both sum them on all
    ranks, although each keeps its share alone, and then gather the weights. Stage 3 gathers weights
    for each forward pass, once more for the backward pass where they were let go, and scatters the
    sums.

    Args:
        model: its parameters may be on the meta device.
        sharing: the way to share.
        accumulation: micro-batches of an update.
        bf16: under autocast, where gradients of `sent_narrow` travel in bfloat16 from stage 1 on,
            and so do their weights at stage 3.
    """
    each = list(model.parameters())
    linear = sent_narrow(model)

    def width(parameter: nn.Parameter, stage: int) -> int:
        return _HALF if bf16 and stage and id(parameter) in linear else _FLOAT

    stage = sharing.stage
    gradients = sum(width(one, stage) * one.numel() for one in each if one.requires_grad)
    everything = sum(one.numel() for one in each)
    if stage == 0:
        return CommunicationVolume(sharing, gradients, 0, 0)
    if stage < 3:
        trained = sum(one.numel() for one in each if one.requires_grad)
        return CommunicationVolume(
            sharing, gradients * (accumulation if stage == 2 else 1), 0, _FLOAT * trained
        )
    lasting = [one for one in each if one.numel() <= sharing.persistence]
    lasting_bytes = sum(width(one, 3) * one.numel() for one in lasting)
    moving = sum(width(one, 3) * one.numel() for one in each) - lasting_bytes
    kept = sharing.kept(everything) / max(1, everything)
    return CommunicationVolume(
        sharing,
        0,
        gradients * accumulation,
        round(moving * (2 - kept)) * accumulation + lasting_bytes,
    )


def sent_narrow(model: LoopedModel) -> set[int]:
    """The ids of the parameters that travel in the precision of autocast: those of linear layers,
    unless the halting rule has one, whose weights have to stay exact (`engine.zero` decides by the
    kind of layer)."""
    if any(type(module) is nn.Linear for module in model.recurrence.rule.modules()):
        return set()
    linear = [module for module in model.modules() if type(module) is nn.Linear]
    return {id(parameter) for module in linear for parameter in module.parameters()}

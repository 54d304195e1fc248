"""Readouts: how the states of a token's steps become its output, weighted by the exit mass."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from halting.mass import halting_dtype
from halting.trace import LoopTrace

Aux: TypeAlias = Mapping[str, Tensor]
_NONE: Aux = MappingProxyType({})


class Readout(ABC):
    """Turns the states a token passed through, and the mass spent on each, into one state.

    The loop carries one accumulator row for each active token: `begin` makes it, `add` spends mass
    on a step's state, and `finish` reads it when the token leaves. So *had it stopped at step n*
    has one meaning everywhere (`if_stopped`): the same readout with all the remaining mass spent on
    step n.

    Attributes:
        keeps_states: the trace then holds every executed step's state, so that each step can be
            trained on its own.
        weighs_by: what weighs the states in the output, or the losses of the steps: "mass", or
            names in `aux`. Through it the task's gradient reaches a gate, without any cost.
    """

    keeps_states: ClassVar[bool] = False
    weighs_by: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def begin(self, state: Float[Tensor, "A D"]) -> Tensor | None:
        """The accumulator [A D] before the first step, or None where none is needed."""

    @abstractmethod
    def add(
        self,
        total: Tensor | None,
        state: Float[Tensor, "A D"],
        mass: Float[Tensor, " A"],
        aux: Aux = _NONE,
    ) -> Tensor | None:
        """The accumulator after spending `mass` [A] on `state` [A D]; `aux` is what its rule said
        beside, by name."""

    @abstractmethod
    def finish(self, total: Tensor | None, state: Float[Tensor, "A D"]) -> Float[Tensor, "A D"]:
        """The output of tokens whose last computed state is `state`, all mass spent."""

    def if_stopped(
        self, total: Tensor | None, state: Tensor, remaining: Float[Tensor, " A"], aux: Aux = _NONE
    ) -> Float[Tensor, "A D"]:
        """[A D]: the output had these tokens stopped at the step that gave `state`, holding
        `remaining` before it."""
        return self.finish(self.add(total, state, remaining, aux), state)

    def loss_weights(self, trace: LoopTrace) -> Float[Tensor, "B L N"]:
        """[B L N]: what each step's own loss weighs, where `keeps_states`; a token's weights sum to
        1, 0 on padding."""
        return trace.mass


class FinalState(Readout):
    """The state of the last step that was computed: h = s_n. The readout of fixed depth and of hard
    exits."""

    def begin(self, state: Tensor) -> None:
        return None

    def add(self, total: Tensor | None, state: Tensor, mass: Tensor, aux: Aux = _NONE) -> None:
        return None

    def finish(self, total: Tensor | None, state: Tensor) -> Tensor:
        return state


class EveryStep(FinalState):
    """Every step is an answer of its own: training weighs each step's loss by its mass (PonderNet,
    exit gates), and the output is the state at the step where the token left. The trace holds all
    states, packed, so the output head is called once on all of them."""

    keeps_states = True
    weighs_by = ("mass",)


class DeepSupervision(Readout):
    """Every executed step is trained alike, whatever the rule would have done there: Σ_n L_n / N
    (deep supervision of HRM, Wang et al. 2025). The output is the state at the step where the token
    left.

    Steps that a rule marks with aux "looks_ahead" (`QHalt` in training) are neither trained nor
    read. HRM updates the model after each step; here the steps of one pass share one update, hence
    the mean.
    """

    keeps_states = True

    def begin(self, state: Tensor) -> Tensor:
        return state

    def add(self, total: Tensor | None, state: Tensor, mass: Tensor, aux: Aux = _NONE) -> Tensor:
        assert total is not None
        if "looks_ahead" not in aux:
            return state
        return torch.where(aux["looks_ahead"].unsqueeze(-1), total.to(state.dtype), state)

    def finish(self, total: Tensor | None, state: Tensor) -> Tensor:
        assert total is not None
        return total

    def loss_weights(self, trace: LoopTrace) -> Tensor:
        trained = trace.ran & ~trace.aux["looks_ahead"] if "looks_ahead" in trace.aux else trace.ran
        return trained.to(trace.mass.dtype) / trained.sum(-1, keepdim=True).clamp(min=1)


class WeightedMean(Readout):
    """The mean of the states weighted by exit mass, Σ p_n·s_n (Graves 2016, section 2). Summed in
    float32 or wider."""

    weighs_by = ("mass",)

    def begin(self, state: Tensor) -> Tensor:
        return state.new_zeros(state.shape, dtype=halting_dtype(state.dtype))

    def add(self, total: Tensor | None, state: Tensor, mass: Tensor, aux: Aux = _NONE) -> Tensor:
        assert total is not None
        return torch.addcmul(total, mass.unsqueeze(-1), state.to(total.dtype))

    def finish(self, total: Tensor | None, state: Tensor) -> Tensor:
        assert total is not None
        return total.to(state.dtype)

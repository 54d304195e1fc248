"""The output of the public Universal Transformer code: an exponential average of a token's
states."""

import torch
from torch import Tensor

from halting.mass import halting_dtype
from halting.readout import Aux, Readout


class ExponentialBlend(Readout):
    """o_n = w_n·s_n + (1 − w_n)·o_{n−1} with o_0 = 0, w_n the published weight (Universal
    Transformer, Dehghani et al. 2018, its public code). Computed in float32 or wider.

    The weight of state n in the output is w_n·Π_{m>n} (1 − w_m). These sum to 1 − Π_n (1 − w_n),
    which is less than 1 unless some w_n is 1: it is neither Graves' mean nor an average at all, and
    its size depends on the depth.

    w_n is `blend_weight` in `aux`, where the rule says it (`UniversalTransformerACT`), whatever
    mass the loop settles. *Had it stopped at step n* is then the blend up to and including step n,
    as a step limit would cut it: no remainder. Under a rule that says none, the mass is the weight.
    Where a rule has not spoken yet (`view.logits()` without aux), step n is given what is left, 1 −
    Σ_{m<n} w_m, as if the token crossed its threshold there.
    """

    weighs_by = ("mass", "blend_weight")

    def begin(self, state: Tensor) -> Tensor:
        """[A D+1]: the blend, and in the last column the sum of the weights so far."""
        return state.new_zeros((len(state), state.shape[-1] + 1), dtype=halting_dtype(state.dtype))

    def add(
        self, total: Tensor | None, state: Tensor, mass: Tensor, aux: Aux | None = None
    ) -> Tensor:
        assert total is not None
        blend = total[:, :-1]
        spent = total[:, -1]
        weight = (aux or {}).get("blend_weight")
        weight = torch.minimum(mass.to(spent.dtype), 1 - spent) if weight is None else weight
        mixed = weight.unsqueeze(-1) * state + (1 - weight).unsqueeze(-1) * blend
        return torch.cat((mixed, (spent + weight).unsqueeze(-1)), dim=-1)

    def finish(self, total: Tensor | None, state: Tensor) -> Tensor:
        assert total is not None
        return total[:, :-1].to(state.dtype)

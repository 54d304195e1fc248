"""DeepSpeed: ZeRO stages 0 to 3 over any number of ranks, with the losses of `LocalEngine`."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from act.loop.recurrence import Recurrence
from act.loop.zero_gradient import attach_zero_gradient
from act.models.asked_losses import AskedLosses
from act.models.looped_model import LoopedModel, ModelOutput
from halting.errors import UsageError
from training.config.precision import ARITHMETIC
from training.config.run_config import RunConfig
from training.distributed import collectives
from training.distributed.process_group import stop
from training.engine.deferred_gradients import defer_parameter_gradients
from training.engine.ds_config import adopt, deepspeed_settings
from training.engine.engine import (
    Engine,
    MakeOptimizer,
    StepResult,
    poison_if_nonfinite,
    unscale,
)
from training.engine.loss_scale import LossScale
from training.engine.model_inputs import extra_inputs
from training.engine.optimizer import build_optimizer, set_learning_rate
from training.engine.state_access import (
    StateAccess,
    WholeStateAccess,
    ZeroStage3Access,
    ZeroStage12Access,
)
from training.tasks.task import Batch


class DeepSpeedEngine(Engine):
    """An optimizer with gradient clipping under ZeRO. `launch.start` comes first.

    The whole recurrence is one ZeRO-3 leaf: its parameters are gathered once for all steps, so
    ranks may loop unequally (law 6). Each rank loops as long as any does only where the block is
    `collective`, and under ZeRO-3 where something outside of the leaf is called at every step: the
    head, by a rule that reads logits, and a coda that reads out every step.

    Args:
        model: the model, the same on all ranks.
        config: batch size, accumulation, precision, optimizer, and the file with ZeRO settings.
        make_optimizer: another optimizer than the config's, as in `LocalEngine`.
        settings: what `deepspeed_settings` has made of the config for this number of ranks; None to
            make it here.

    Raises:
        UsageError: for a ds_config that cannot be, or that conflicts with the run.
    """

    def __init__(
        self,
        model: LoopedModel,
        config: RunConfig,
        make_optimizer: MakeOptimizer = build_optimizer,
        settings: dict[str, Any] | None = None,
    ):
        config = adopt(config, collectives.world_size()).config
        if settings is None:
            settings = deepspeed_settings(config, collectives.world_size())
        # late: it takes its time, and `launch.start` has to prepare the environment
        import deepspeed
        from deepspeed.runtime import torch_autocast

        arithmetic = ARITHMETIC[config.precision]
        if arithmetic.autocast is not None:
            settings["torch_autocast"]["lower_precision_safe_modules"] = _narrow_on_the_way(model)
        # It outlives an engine, and the next one in this process would scale its loss for the last
        # one's fp16.
        torch_autocast.TORCH_AUTOCAST_INITIALIZED = False

        self.model = model
        self.clip = config.optimizer.clip
        self.accumulation = config.accumulation
        self.stage = int(settings["zero_optimization"]["stage"])
        self.whole = self.stage < 3
        self.optimizer = make_optimizer(model, config.optimizer)
        if self.stage == 0:
            # There DeepSpeed clips without telling the norm, and steps whatever it is.
            settings["gradient_clipping"] = 0.0
            self.optimizer.register_step_pre_hook(self._clip_or_skip)
        if self.stage in (1, 2):
            defer_parameter_gradients(model.recurrence)
        if self.stage == 3:
            deepspeed.utils.set_z3_leaf_modules(model, [Recurrence])
            model.recurrence.register_forward_pre_hook(_want_input_gradient)
        try:
            self.engine, *_ = deepspeed.initialize(
                model=model, optimizer=self.optimizer, config=settings, dist_init_required=False
            )
        except (ValueError, AssertionError, LookupError, TypeError, NotImplementedError) as error:
            says = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(
                f"DeepSpeed does not start with {config.launch.deepspeed_config}.",
                f"It says: {says.rstrip('.')}.",
                "Change what it names, or write --deepspeed-config ds_configs/zero2.json.",
            ) from error
        if arithmetic.scaled:
            self.loss_scale = LossScale()
            self._scale_ourselves()
        device = self.engine.device
        assert isinstance(device, torch.device)
        self.device = device
        self._gathered = 0
        self._norm = math.nan
        self._logits: Tensor | None = None

    def forward(
        self,
        batch: Batch,
        record_lens: bool = False,
        max_steps: int | None = None,
        asked: AskedLosses | None = None,
    ) -> ModelOutput:
        together = self.model.recurrence.block.collective
        agree = together or (self.stage == 3 and self.model.leaves_loop_each_step(record_lens))
        self.model.recurrence.keep_going = (
            collectives.someone_active(self.device) if agree else bool
        )
        output: ModelOutput = self.engine(
            batch.tokens,
            batch.valid,
            **extra_inputs(self.model, batch, asked),
            record_lens=record_lens,
            max_steps=max_steps,
        )
        self._logits = output.logits if torch.is_grad_enabled() else self._logits
        return output

    def backward(self, loss: Tensor) -> None:
        assert self._gathered < self.accumulation, "step comes after `accumulation` backward passes"
        # A leaf's gradient is reduced once the backward has passed its first output, which goes
        # into the logits; a loss of every step's own answer does not read them.
        assert self._logits is not None, "backward comes after forward"
        loss = attach_zero_gradient(loss, [self._logits])
        self._logits = None
        # DeepSpeed averages over the ranks, where the shares of all ranks are meant to add up.
        loss = poison_if_nonfinite(loss) * collectives.world_size()
        if self.loss_scale is not None and self.stage:
            zero: Any = self.engine.optimizer
            zero.override_loss_scale(self.scale)  # it multiplies, and divides before it clips
        else:
            loss = loss * self.scale
        self.engine.backward(loss, scale_wrt_gas=False)
        self._gathered += 1
        if self._gathered < self.accumulation:
            self.engine.step()  # no update yet: it counts micro-batches

    def step(self, learning_rate: float) -> StepResult:
        assert self._gathered == self.accumulation, (
            "step comes after `accumulation` backward passes"
        )
        set_learning_rate(self.optimizer, learning_rate)
        self.engine.step()
        self._gathered = 0
        told = self.engine.get_global_grad_norm()
        norm = self._norm if told is None else float(told)  # None at stage 0
        skipped = not math.isfinite(norm)
        if self.loss_scale is not None:
            self.loss_scale.update(skipped)
        return StepResult(norm, skipped)

    def _scale_ourselves(self) -> None:
        """Takes the loss scale away from DeepSpeed: under autocast (0.19.8) its ZeRO stages clip
        gradients before they are divided by it, and never lower it after an overflow."""
        holder, name = (
            (self.engine.optimizer, "torch_autocast_gradscaler")
            if self.stage
            else (self.engine, "torch_autocast_z0_gradscaler")
        )
        assert getattr(holder, name) is not None, f"this DeepSpeed scales elsewhere than in {name}"
        setattr(holder, name, None)

    def _clip_or_skip(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Before a step at stage 0, where the gradient is the same on all ranks: what `LocalEngine`
        does."""
        parameters = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]
        unscale(parameters, self.scale)
        self._norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.clip))
        if not math.isfinite(self._norm):
            for parameter in parameters:
                parameter.grad = None  # an optimizer leaves such a parameter and its moments alone

    @property
    def held(self) -> StateAccess:
        if self.stage == 0:
            return WholeStateAccess(self.optimizer)
        zero = self.engine.optimizer
        return (
            ZeroStage3Access(self.optimizer, zero, collectives.rank())
            if self.stage == 3
            else ZeroStage12Access(self.optimizer, zero)
        )

    def train(self) -> None:
        self.engine.train()

    def eval(self) -> None:
        self.engine.eval()

    def close(self) -> None:
        self.model.recurrence.keep_going = bool
        self.engine.destroy()
        stop()


def _narrow_on_the_way(model: LoopedModel) -> list[str]:
    """The layers whose weights and gradients ZeRO sends in the precision of autocast: those that
    autocast narrows anyway, unless the halting rule has one of their kind. Its weights would come
    out rounded under ZeRO-3 (law 5)."""
    of_rule = {type(module) for module in model.recurrence.rule.modules()}
    kinds = {type(module) for module in model.modules()} & {
        nn.Linear,
        nn.Conv1d,
        nn.Conv2d,
        nn.Conv3d,
    }
    return sorted(f"{kind.__module__}.{kind.__name__}" for kind in kinds - of_rule)


def _want_input_gradient(recurrence: Recurrence, given: tuple) -> tuple:
    """Has the leaf's input want a gradient, also where all that made it is frozen.

    DeepSpeed reduces a leaf's gradients when the backward has come to its inputs. Where none of
    them wants a gradient, it does so at once, before the gate has its own. (The price: the backward
    passes through a frozen loop too.)
    """
    x, *rest = given
    return (
        x.detach().requires_grad_() if torch.is_grad_enabled() and not x.requires_grad else x,
        *rest,
    )

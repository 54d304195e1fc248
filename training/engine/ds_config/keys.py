"""What becomes of every key that a ds_config may have."""

from typing import Any

from training.engine.ds_config.key import GONE, NO_DISK, OURS_SAVED, Key, keys
from training.engine.ds_config.zero_keys import ZERO_KEYS

_OURS = "it lies in the run folder, under a name of the run's"
_SCALE = "fp16 has a loss scale of the run's own, which starts at 2^16 and follows the gradients"


def _monitor(section: str, taken: str, others: str, instead: str) -> list[Key]:
    return [
        *keys(section, "taken", "enabled", f"--report-to {taken}"),
        *keys(section, "ignored", others, instead),
    ]


TABLE: dict[str, Key] = {
    key.path: key
    for key in (
        # the run's numbers
        *keys("", "taken", "train_batch_size", "--batch-size"),
        *keys("", "taken", "gradient_accumulation_steps", "--accumulation"),
        *keys(
            "",
            "taken",
            "train_micro_batch_size_per_gpu",
            "--batch-size or --accumulation: batch = micro-batch x accumulation x ranks",
        ),
        *keys("", "taken", "gradient_clipping", "--optimizer.clip"),
        *keys("optimizer", "taken", "type", "--optimizer.kind"),
        *keys("optimizer.params", "taken", "lr", "--optimizer.learning-rate"),
        *keys("optimizer.params", "taken", "betas", "--optimizer.beta1 and --optimizer.beta2"),
        *keys("optimizer.params", "taken", "eps", "--optimizer.eps"),
        *keys("optimizer.params", "taken", "weight_decay", "--optimizer.weight-decay"),
        *keys("optimizer.params", "taken", "momentum", "--optimizer.momentum"),
        *keys("optimizer.params", "taken", "nesterov", "--optimizer.nesterov"),
        *keys(
            "optimizer.params",
            "ignored",
            "torch_adam fused foreach capturable set_grad_none fp32_optimizer_states",
            "the optimizer is torch's own, whose numbers are those of all of them",
        ),
        *keys(
            "optimizer.params",
            "refused",
            "adam_w_mode bias_correction",
            "The run's AdamW decays weights apart from the gradient, and corrects its moments.",
            "Write true, or drop it.",
        ),
        *keys(
            "optimizer.params",
            "refused",
            "amsgrad",
            "The run's AdamW has no such variant.",
            "Drop it, or write a class of your own: --optimizer.kind file.py:Class.",
        ),
        *keys(
            "optimizer.params",
            "refused",
            "max_grad_norm",
            "It is no number of an optimizer, and DeepSpeed refuses it there.",
            "Write gradient_clipping at the top of the file.",
        ),
        *keys("optimizer", "ignored", "legacy_fusion", "the optimizer is torch's own"),
        *keys("scheduler", "taken", "type", "--schedule.kind"),
        *keys("scheduler.params", "taken", "warmup_num_steps", "--schedule.warmup"),
        *keys("scheduler.params", "taken", "warmup_max_lr", "--optimizer.learning-rate"),
        *keys("scheduler.params", "taken", "total_num_steps", "--updates"),
        *keys("scheduler.params", "taken", "cos_min_ratio", "--schedule.final-fraction"),
        *keys(
            "scheduler.params",
            "ignored",
            "warmup_type",
            "warm-ups rise linearly here (DeepSpeed's default is by the logarithm)",
        ),
        *keys(
            "scheduler.params",
            "ignored",
            "last_batch_iteration",
            "a resumed run knows at which update it is",
        ),
        *keys(
            "scheduler.params",
            "refused",
            "warmup_min_lr warmup_min_ratio",
            "The run's warm-ups begin at 0.",
            "Write 0, or a schedule of your own: --schedule.kind file.py:Class.",
        ),
        # precision
        *keys("fp16", "taken", "enabled", "--precision fp16, by autocast over float32 weights"),
        *keys(
            "fp16",
            "ignored",
            "loss_scale initial_scale_power loss_scale_window hysteresis consecutive_hysteresis "
            "min_loss_scale",
            _SCALE,
        ),
        *keys("fp16", "ignored", "auto_cast", "fp16 is autocast here"),
        *keys(
            "fp16",
            "ignored",
            "fp16_master_weights_and_grads",
            "weights and gradients are float32 under --precision fp16",
        ),
        *keys(
            "bf16",
            "taken",
            "enabled",
            "--precision bf16, by autocast over float32 weights (--precision bf16_weights beside "
            "it has bf16 weights)",
        ),
        *keys(
            "bf16",
            "ignored",
            "immediate_grad_update check_grad_overflow",
            "an update that is not finite is skipped by the run itself",
        ),
        *keys(
            "bf16",
            "ignored",
            "bf16_master_weights_and_grads bf16_optimizer_states",
            "the optimizer works in float32",
        ),
        *keys("torch_autocast", "taken", "enabled dtype", "--precision"),
        *keys(
            "torch_autocast",
            "ignored",
            "lower_precision_safe_modules",
            "which layers travel in 16 bits follows from the halting rule (law 5)",
        ),
        *keys(
            "data_types",
            "refused",
            "grad_accum_dtype param_dtype buffer_dtype",
            "What numbers a run computes in is --precision.",
            "Drop it, and write --precision bf16 or bf16_weights.",
        ),
        *keys("data_types", "ignored", "keep_in_fp32_modules", "halting is float32 anyway"),
        # monitors
        *_monitor("tensorboard", "tensorboard", "output_path job_name", _OURS),
        *_monitor("csv_monitor", "csv", "output_path job_name", _OURS),
        *_monitor(
            "wandb",
            "wandb",
            "group team project",
            "write WANDB_PROJECT, WANDB_ENTITY and WANDB_RUN_GROUP into the environment",
        ),
        *_monitor(
            "comet",
            "comet",
            "samples_log_interval project workspace api_key experiment_name experiment_key online "
            "mode",
            "write COMET_PROJECT_NAME, COMET_API_KEY and their like into the environment",
        ),
        *ZERO_KEYS,
        # what DeepSpeed sends and tells
        *keys(
            "",
            "passed",
            "communication_data_type prescale_gradients gradient_predivide_factor "
            "steps_per_print wall_clock_breakdown memory_breakdown dump_state log_level",
        ),
        *keys("comms_logger", "passed", "enabled prof_all prof_ops verbose debug"),
        *keys(
            "flops_profiler",
            "passed",
            "enabled recompute_fwd_factor profile_step module_depth top_modules detailed "
            "output_file",
        ),
        *keys("timers.throughput", "passed", "enabled synchronized"),
        *keys(
            "",
            "refused",
            "gradient_allreduce_op",
            "The shares of all ranks add up to the loss, and DeepSpeed's average is counted in.",
            'Write "mean", or drop it.',
        ),
        *keys(
            "",
            "ignored",
            "zero_allow_untested_optimizer",
            "optimizers that need whole matrices are refused by the run itself",
        ),
        *keys(
            "",
            "ignored",
            "zero_force_ds_cpu_optimizer",
            "the optimizer is torch's own, also on the CPU",
        ),
        *keys(
            "aio",
            "ignored",
            "block_size queue_depth intra_op_parallelism single_submit overlap_events use_gds "
            "thread_count",
            NO_DISK,
        ),
        *keys(
            "activation_checkpointing",
            "ignored",
            "partition_activations partitioned_activations cpu_checkpointing "
            "contiguous_memory_optimization number_checkpoints synchronize_checkpoint_boundary "
            "profile",
            "--loop.backprop checkpointed says what is computed again",
        ),
        *keys(
            "checkpoint",
            "ignored",
            "tag_validation load_universal use_node_local_storage parallel_write "
            "checkpoint_serialization writer",
            OURS_SAVED,
        ),
        *keys("", "ignored", "load_universal_checkpoint", OURS_SAVED),
        *keys("", "ignored", "datastates_ckpt datastates", OURS_SAVED),
        *keys(
            "",
            "ignored",
            "disable_allgather disable_python_gc vocabulary_size dataloader_drop_last "
            "seq_parallel_communication_data_type use_data_before_expert_parallelism",
            "a run of ours has no use for it",
        ),
        *keys("", "ignored", "pipeline", "there are no pipeline stages here"),
        *keys(
            "",
            "ignored",
            "comms_config monitor_config",
            "DeepSpeed does not read it; monitors stand at the top: --report-to",
        ),
        # other ways to train
        *keys(
            "",
            "refused",
            "tensor_parallel sequence_parallel_size expert_parallel",
            "A run shares its batch out, and by ZeRO its state; a model is not cut into parts "
            "that compute together.",
            "Drop it.",
        ),
        *keys(
            "",
            "refused",
            "compile",
            "DeepCompile rewrites a model's graph, and the loop has another one at every update.",
            "Drop it, and write --loop.compiled, which compiles what works on each token alone.",
        ),
        *keys(
            "",
            "refused",
            "data_efficiency",
            "What a batch holds is a function of the seed and the update.",
            "Drop it; --data flags say what is trained on.",
        ),
        *keys(
            "",
            "refused",
            "hybrid_engine weight_quantization autotuning",
            "It is for serving, or for finding settings, and not for training.",
            "Drop it (ponder tune finds settings, and --dry-run what fits).",
        ),
        *keys(
            "",
            "refused",
            "managed_gradient_accumulation",
            "The run counts its micro-batches as DeepSpeed does by itself.",
            "Write true, or drop it.",
        ),
        *keys(
            "",
            "refused",
            "amp",
            f"NVIDIA's Apex; {GONE}.",
            "Drop it, and write --precision bf16 or fp16.",
        ),
        *keys(
            "",
            "refused",
            "sparse_gradients",
            f"Sparse gradients of embeddings; {GONE}.",
            "Drop it.",
        ),
        *keys(
            "",
            "refused",
            "elasticity",
            f"Elastic training; {GONE}.",
            "Drop it: ponder train --resume RUN goes on with another number of ranks anyway.",
        ),
        *keys(
            "",
            "refused",
            "nebula compression_training quantize_training eigenvalue sparse_attention "
            "graph_harvesting curriculum_learning progressive_layer_drop",
            f"{GONE}.",
            "Drop it.",
        ),
    )
}
"""By path. What DeepSpeed 0.19.8 reads, and keys of older versions that files still have."""

OFF: dict[str, tuple[Any, ...]] = {
    "gradient_allreduce_op": ("mean", "MEAN", "Mean"),
    "sequence_parallel_size": (1,),
    "tensor_parallel.autotp_size": (1,),
    "zero_optimization.zero_hpz_partition_size": (1,),
    "zero_optimization.mics_shard_size": (-1,),
    "zero_optimization.offload_optimizer.ratio": (1, 1.0),
    "data_types.grad_accum_dtype": ("fp32", "float32", "float"),
    "data_types.param_dtype": ("fp32", "float32", "float"),
    "data_types.buffer_dtype": ("fp32", "float32", "float"),
}
"""Values of what is refused that ask for nothing, beside false, null, "auto" and 0."""

ALIASES = {"bfloat16": "bf16"}
"""Sections by an older name."""

SECTIONS = {key.section for key in TABLE.values() if key.section} | {
    "optimizer",
    "scheduler",
    "timers",
}


def children(section: str) -> dict[str, str]:
    """The keys and sections that stand in a section, by name, and their paths."""
    paths = [*TABLE, *SECTIONS]
    return {path.rpartition(".")[2]: path for path in paths if path.rpartition(".")[0] == section}


def homes(name: str) -> list[str]:
    """Where a key or section of this name belongs."""
    return sorted(path for path in {*TABLE, *SECTIONS} if path.rpartition(".")[2] == name)


_ON = ("managed_gradient_accumulation", "adam_w_mode", "bias_correction")
"""Of what is refused, keys that have to be true."""
_SWITCHES = {"compile": "deepcompile", "tensor_parallel": "autotp_size"}


def asks_for_nothing(path: str, value: Any) -> bool:
    """Whether a value of what is refused leaves it off: false, null, "auto", 0, one of `OFF`; a
    section that is empty, that says "enabled": false, or that holds such values alone."""
    if path.rpartition(".")[2] in _ON:
        return value in (True, None, "auto")
    if isinstance(value, dict):
        switch = _SWITCHES.get(path, "enabled")
        if switch in value:
            return asks_for_nothing(f"{path}.{switch}", value[switch])
        return all(asks_for_nothing(f"{path}.{name}", each) for name, each in value.items())
    return value is None or value in ("auto", False, 0, "") or value in OFF.get(path, ())

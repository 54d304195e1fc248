"""What becomes of the keys of a ds_config's zero_optimization."""

from training.engine.ds_config.key import GONE, NO_DISK, OURS_SAVED, keys

ZERO = "zero_optimization"
OFFLOADS = (f"{ZERO}.offload_optimizer", f"{ZERO}.offload_param")
_QUANTIZED = (
    "What ranks send would be rounded to 8 or 4 bits by operators of DeepSpeed's (quantizer) that "
    "GPUs alone have; every engine gives the same losses here."
)
_LEAF = "the whole recurrence is the leaf of ZeRO-3, so that ranks may loop unequally (law 6)"

ZERO_KEYS = (
    *keys(
        ZERO,
        "passed",
        "stage contiguous_gradients reduce_scatter reduce_bucket_size "
        "use_multi_rank_bucket_allreduce allgather_partitions allgather_bucket_size "
        "overlap_comm sub_group_size stage3_prefetch_bucket_size "
        "stage3_param_persistence_threshold stage3_model_persistence_threshold "
        "stage3_max_live_parameters stage3_max_reuse_distance "
        "stage3_use_all_reduce_for_fetch_params "
        "stage3_allgather_sequential ignore_unused_parameters "
        "memory_efficient_linear override_module_apply log_trace_cache_warnings "
        "enable_sanity_checks",
    ),
    *keys(ZERO, "passed", "cpu_offload", "as offload_optimizer.device: cpu"),
    *keys(ZERO, "passed", "cpu_offload_param cpu_offload_params", "as offload_param.device"),
    *keys(ZERO, "ignored", "cpu_offload_use_pin_memory", "pin_memory says so"),
    *keys(ZERO, "passed", "prefetch_bucket_size", "as stage3_prefetch_bucket_size"),
    *keys(
        ZERO,
        "passed",
        "param_persistence_threshold model_persistence_threshold max_live_parameters "
        "max_reuse_distance use_all_reduce_for_fetch_params "
        "allgather_sequential",
        "as stage3_ and this name",
    ),
    *keys(
        ZERO,
        "ignored",
        "stage3_gather_16bit_weights_on_model_save gather_16bit_weights_on_model_save "
        "stage3_gather_fp16_weights_on_model_save load_from_fp32_weights elastic_checkpoint "
        "pipeline_loading_checkpoint legacy_stage1",
        OURS_SAVED,
    ),
    *keys(
        ZERO,
        "ignored",
        "compute_grad_norm",
        "clipping, and leaving out what is not finite, need the norm",
    ),
    *keys(ZERO, "ignored", "parameter_alignment", "weights and moments are kept one by one"),
    *keys(
        ZERO,
        "ignored",
        "leaf_module stage3_module_granularity_threshold module_granularity_threshold",
        _LEAF,
    ),
    *keys(
        ZERO,
        "ignored",
        "round_robin_gradients",
        "DeepSpeed 0.19.8 gives back other moments than it took, once parameters are shared out in "
        "turn",
    ),
    *keys(ZERO, "ignored", "save_muon_momentum_buffer_in_memory", NO_DISK),
    *keys(
        ZERO,
        "refused",
        "zero_quantized_weights zero_quantized_nontrainable_weights zero_quantized_gradients",
        _QUANTIZED,
        "Drop it.",
    ),
    *keys(
        ZERO,
        "refused",
        "zero_hpz_partition_size",
        "A second copy of the weights in each machine was not tried, and checkpoints don't "
        "know it.",
        "Write 1, or drop it.",
    ),
    *keys(
        ZERO,
        "refused",
        "zenflow",
        "It delays the updates of most weights, so that losses are no longer those of the "
        "other engines.",
        "Drop it.",
    ),
    *keys(
        ZERO,
        "refused",
        "mics_shard_size mics_hierarchical_params_gather",
        f"MiCS shards within groups of ranks; {GONE}.",
        "Drop it; stage 3 alone shards over all ranks.",
    ),
    *keys(ZERO, "refused", "zeropp_loco_param", f"LoCo: {GONE}.", "Drop it."),
    *(
        key
        for section in OFFLOADS
        for key in (
            *keys(section, "passed", "device pin_memory"),
            *keys(
                section,
                "ignored",
                "nvme_path buffer_count buffer_size max_in_cpu fast_init pipeline pipeline_read "
                "pipeline_write",
                NO_DISK,
            ),
        )
    ),
    *keys(
        OFFLOADS[0],
        "refused",
        "ratio",
        "A part of the optimizer state on the CPU was not tried with checkpoints.",
        "Write 1.0, or drop it.",
    ),
    *keys(
        OFFLOADS[0],
        "refused",
        "super_offload",
        "It steps an optimizer of DeepSpeed's own in other processes.",
        "Write false, or drop it.",
    ),
    *keys(OFFLOADS[0], "ignored", "cpuadam_cores_perc", "it belongs to super_offload"),
)
"""By name; some are names of older versions."""

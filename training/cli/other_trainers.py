"""Flags of other trainers: taken where they mean the same, else told by ours."""

from collections.abc import Sequence

from halting.errors import UsageError, raise_all

_MEANT = {
    "per_device_train_batch_size": "--batch-size, which counts the examples of all ranks",
    "per_gpu_train_batch_size": "--batch-size, which counts the examples of all ranks",
    "train_batch_size": "--batch-size",
    "micro_batch_size": "--batch-size and --accumulation",
    "train_micro_batch_size_per_gpu": "--batch-size and --accumulation",
    "per_device_eval_batch_size": "--batch-size, which evaluations go by too",
    "global_batch_size": "--batch-size",
    "gradient_accumulation_steps": "--accumulation",
    "learning_rate": "--optimizer.learning-rate",
    "lr": "--optimizer.learning-rate",
    "weight_decay": "--optimizer.weight-decay",
    "adam_beta1": "--optimizer.beta1",
    "adam_beta2": "--optimizer.beta2",
    "adam_epsilon": "--optimizer.eps",
    "optim": "--optimizer.kind",
    "max_grad_norm": "--optimizer.clip",
    "gradient_clipping": "--optimizer.clip",
    "clip_grad": "--optimizer.clip",
    "lr_scheduler_type": "--schedule.kind",
    "lr_scheduler": "--schedule.kind",
    "warmup_steps": "--schedule.warmup",
    "warmup_ratio": "--schedule.warmup, in updates",
    "max_steps": "--updates (or --loop.max-steps, the most steps of the loop)",
    "train_steps": "--updates",
    "train_iters": "--updates",
    "num_steps": "--updates",
    "num_train_epochs": "--updates; --time-limit and --flops-limit end a run too",
    "epochs": "--updates; --time-limit and --flops-limit end a run too",
    "output_dir": "--output and --name",
    "run_name": "--name",
    "overwrite_output_dir": "--name, with another name: a run is never overwritten",
    "resume_from_checkpoint": "--resume RUN",
    "load_checkpoint": "--resume RUN",
    "save_steps": "--save-every",
    "save_total_limit": "--keep-last",
    "eval_steps": "--eval-every",
    "load_best_model_at_end": "--best-by",
    "metric_for_best_model": "--best-by",
    "early_stopping_patience": "--patience",
    "bf16": "--precision bf16",
    "fp16": "--precision fp16",
    "mixed_precision": "--precision",
    "no_cuda": "--device cpu",
    "use_cpu": "--device cpu",
    "gradient_checkpointing": "--loop.backprop checkpointed",
    "torch_compile": "--loop.compiled",
    "model_name_or_path": "--start-from RUN, for the weights of a run",
    "train_file": "--data.text, in recipes that read text",
    "dataset_name": "--data.kind",
    "zero_stage": "--deepspeed-config ds_configs/zero2.json",
    "ds_config": "--deepspeed-config",
    "use_deepspeed": "--deepspeed-config",
    "fsdp": "--deepspeed-config ds_configs/zero3.json",
    "nproc_per_node": "torchrun --nproc_per_node before the module",
    "num_gpus": "deepspeed --num_gpus before --module",
}
"""By its name without dashes; what to write here instead."""
_OF_VERBS: dict[str, str] = dict.fromkeys(
    ("examples", "num_examples", "max_examples"),
    "--eval-examples, of each evaluation, or --test-examples, of the test at the end",
)
_TWO = "It is that of verbs that read examples once; a training does so in two places."


def with_deepspeed_flag(argv: Sequence[str]) -> list[str]:
    """The words with `--deepspeed FILE`, as Hugging Face's trainer has it, as `--deepspeed-config
    FILE`, and without a bare `--deepspeed`, as DeepSpeed's own examples have it.

    Raises:
        UsageError: where both name a file.
    """
    words: list[str] = []
    named = []
    skip = False
    for number, word in enumerate(argv):
        following = argv[number + 1] if number + 1 < len(argv) else ""
        name, equals, value = word.partition("=")
        if skip:
            skip = False
        elif name != "--deepspeed":
            words.append(word)
        elif equals or (words and following and not following.startswith("-")):
            skip = not equals
            named.append(value if equals else following)
    if named and any(word.partition("=")[0].replace("_", "-") == _OURS for word in words):
        raise UsageError(
            f"--deepspeed {named[0]} comes with {_OURS}.",
            "Both name the file with DeepSpeed's settings.",
            f"Drop one of them; {_OURS} is the name here.",
        )
    return [*words, *(part for file in named[-1:] for part in (_OURS, file))]


_OURS = "--deepspeed-config"


def check_other_trainers(words: Sequence[str]) -> None:
    """Refuses flags of other trainers that are none here, all of them at once.

    Raises:
        UsageError: with what each of them is here.
    """
    names = [word.partition("=")[0] for word in words if word.startswith("--")]
    raise_all(
        [
            UsageError(f"There is no flag {name}.", why, f"Did you mean {meant[known]}?")
            for name in dict.fromkeys(names)
            for meant, why in ((_MEANT, "It is another trainer's."), (_OF_VERBS, _TWO))
            if (known := name[2:].replace("-", "_")) in meant
        ]
    )

"""The table of keys holds every key that the installed DeepSpeed reads."""

import importlib
import inspect
import pkgutil
from typing import Any

import pytest
from pydantic import BaseModel

from training.engine.ds_config.keys import SECTIONS, TABLE, children, homes

deepspeed = pytest.importorskip("deepspeed")
MODELS = {
    "zero_optimization": ("runtime.zero.config", "DeepSpeedZeroConfig"),
    "zero_optimization.offload_param": (
        "runtime.zero.offload_config",
        "DeepSpeedZeroOffloadParamConfig",
    ),
    "zero_optimization.offload_optimizer": (
        "runtime.zero.offload_config",
        "DeepSpeedZeroOffloadOptimizerConfig",
    ),
    "zero_optimization.leaf_module": (
        "runtime.zero.leaf_module_config",
        "DeepSpeedZeroLeafModuleConfig",
    ),
    "zero_optimization.zenflow": ("runtime.zenflow.zenflow_config", "ZenFlowConfig"),
    "fp16": ("runtime.precision_config", "DeepSpeedFP16Config"),
    "bf16": ("runtime.precision_config", "DeepSpeedBF16Config"),
    "tensorboard": ("monitor.config", "TensorBoardConfig"),
    "wandb": ("monitor.config", "WandbConfig"),
    "csv_monitor": ("monitor.config", "CSVConfig"),
    "comet": ("monitor.config", "CometConfig"),
    "comms_logger": ("comm.config", "CommsLoggerConfig"),
    "timers.throughput": ("utils.config", "DeepSpeedThroughputTimerConfig"),
    "compile": ("compile.config", "CompileConfig"),
    "hybrid_engine": ("runtime.config", "HybridEngineConfig"),
    "tensor_parallel": ("runtime.tensor_parallel.config", "TPTrainingConfig"),
    "weight_quantization": ("inference.config", "WeightQuantConfig"),
}
"""DeepSpeed's own models, by the section that each reads."""
_NO_SECTIONS = {
    "DeepSpeedConfigModel",  # of all of them
    "DeepSpeedMonitorConfig",  # the four monitors, which stand at the top
    "TPConfig",  # within tensor_parallel
    "BaseQuantConfig",
    "QuantizationConfig",
    "ActivationQuantConfig",
    "QKVQuantConfig",
    "InferenceCheckpointConfig",
    "DeepSpeedInferenceConfig",
    "DeepSpeedTPConfig",
    "DeepSpeedMoEConfig",
}
"""Models of its inference, and those within others."""


def missing(section: str, names: set[str]) -> set[str]:
    """Those that the table lacks; a section that is one entry stands for all of its keys."""
    if section in TABLE:
        return set()
    return names - set(children(section))


@pytest.mark.parametrize("section", MODELS)
def test_every_field_of_deepspeeds_models(section):
    module, name = MODELS[section]
    model = getattr(importlib.import_module(f"deepspeed.{module}"), name)
    names = set(model.model_fields) | {
        field.alias for field in model.model_fields.values() if field.alias
    }
    assert not missing(section, names)


def test_no_model_of_deepspeeds_is_left_out():
    known = {name for _, name in MODELS.values()} | _NO_SECTIONS
    found = set()
    for package in ("runtime", "monitor", "comm", "utils", "compile", "inference", "profiling"):
        folder = importlib.import_module(f"deepspeed.{package}")
        names = [each.name for each in pkgutil.walk_packages(folder.__path__)]
        for name in names:
            if not name.endswith("config"):
                continue
            module = importlib.import_module(f"deepspeed.{package}.{name}")
            found |= {
                name
                for name, each in inspect.getmembers(module, inspect.isclass)
                if issubclass(each, BaseModel) and each.__module__.startswith("deepspeed.")
            }
    assert found - known == set()


class Recording(dict):
    """A section that writes down which of its keys are looked for."""

    def __init__(self, path: str, looked_for: set[str], **values: Any):
        super().__init__(values)
        self.path = path
        self.looked_for = looked_for

    def _note(self, name: object) -> None:
        self.looked_for.add(f"{self.path}.{name}" if self.path else str(name))

    def __contains__(self, name: object) -> bool:
        self._note(name)
        return super().__contains__(name)

    def __getitem__(self, name: str) -> Any:
        self._note(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._note(name)
        return super().get(name, default)

    def keys(self) -> Any:
        return self

    def __copy__(self) -> "Recording":
        return self


def test_every_key_that_deepspeed_looks_for():
    from deepspeed.runtime.config import DeepSpeedConfig

    looked_for: set[str] = set()
    sections = {
        name: Recording(name, looked_for)
        for name in (
            "activation_checkpointing",
            "aio",
            "checkpoint",
            "data_types",
            "flops_profiler",
            "optimizer",
            "scheduler",
            "torch_autocast",
        )
    }
    sections["optimizer"].update(type="Adam", params=Recording("optimizer.params", looked_for))
    sections["scheduler"].update(type="WarmupLR", params={})
    DeepSpeedConfig(Recording("", looked_for, train_batch_size=1, **sections))
    assert {"train_batch_size", "optimizer.params.max_grad_norm", "aio.use_gds"} <= looked_for
    known = set(TABLE) | SECTIONS | {"bfloat16"}  # an older name of bf16
    assert not {path for path in looked_for - known if path.rpartition(".")[0] not in TABLE}


def test_an_entry_says_what_becomes_of_it():
    for key in TABLE.values():
        assert key.says or key.fate == "passed", key
        assert bool(key.fix) == (key.fate == "refused"), key
        assert key.path not in SECTIONS, key


def test_where_a_key_belongs():
    assert homes("aio") == ["aio"] and homes("lr") == ["optimizer.params.lr"]
    assert children("zero_optimization.offload_param")["device"] == (
        "zero_optimization.offload_param.device"
    )

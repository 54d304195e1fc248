"""A person's ds_config: what of it becomes the run's, what DeepSpeed gets, what cannot be."""

from training.engine.ds_config.adopted import Adopted, adopt, on_gpu
from training.engine.ds_config.settings import check_with_deepspeed, deepspeed_settings

__all__ = ["Adopted", "adopt", "check_with_deepspeed", "deepspeed_settings", "on_gpu"]

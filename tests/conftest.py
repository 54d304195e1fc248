"""Every test starts from the same seed and computes on one thread, so that its numbers are the same
each time. Modules that take long are begun first."""

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

torch.set_num_threads(1)
# What the tests start has to hear a closed terminal, also where they run under nohup.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# What tests train with is nobody's to trust after them.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="ponderloop-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)

HERE = Path(__file__).parent
LONGEST_FIRST = tuple(
    HERE / name
    for name in (
        "distributed/test_many_machines.py",
        "distributed/test_reshape.py",
        "distributed/test_launcher.py",
        "distributed/test_engine_memory.py",
        "distributed/test_engine_zero.py",
        "distributed/test_ds_configs.py",
        "distributed/test_unequal.py",
        "distributed/test_precision.py",
        "test_getting_started.py",
        "training/test_train.py",
        "test_notebook.py",
        "test_wheel.py",
        "test_site.py",
        "training/cli/test_startup.py",
        "benchmarks/compute/test_compute.py",
        "learning/test_learning.py",
        "distributed/test_signals.py",
        "distributed/test_stop.py",
        "act/layers/test_compiled.py",
        "act/testing/test_block_contract.py",
        "distributed/test_unequal_facts.py",
        "distributed/test_chaos.py",
        "distributed/test_dealing_ranks.py",
        "training/checkpoints/test_checkpoints.py",
        "training/cli/test_doctor.py",
        "distributed/test_engine_start.py",
        "distributed/test_frozen.py",
        "benchmarks/harness/test_trainings.py",
        "training/tuning/test_tune.py",
        "training/checkpoints/test_start_from.py",
    )
)
"""What takes over ten seconds. `make test` gives each core a module at a time; one of these begun
last would leave the other core with nothing to do."""
assert all(path.exists() for path in LONGEST_FIRST), "a test file has another name than here"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {path: number for number, path in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def fresh_compiler() -> None:
    """Nothing that other modules compiled counts towards the limit from which a function is no
    longer compiled."""
    import torch._dynamo  # here, because it is slow to import

    torch._dynamo.reset()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes and types of calls are not checked: what checks them cannot be compiled."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)

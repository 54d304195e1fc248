"""Every test starts from the same seed and computes on one thread, so that its numbers are the same each time."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes and types of calls are not checked: what checks them cannot be compiled."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)

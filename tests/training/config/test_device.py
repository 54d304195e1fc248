"""A device that is not there is refused where a run is loaded, before anything is read."""

from typing import Any

import pytest
import torch

from halting import UsageError
from training.config.device import check_device
from training.runs.loaded import load_run


@pytest.mark.parametrize(
    ("device", "gpus", "words"),
    [
        ("cuda", 0, "no GPUs here.*cpu"),
        ("cuda:1", 1, "1 GPU here.*cuda:0"),
        (torch.device("cuda", 4), 2, "cuda:4.*2 GPUs"),
        ("gpu", 2, "device is 'gpu'.*names no device"),
        (None, 0, "device is None"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, device: Any, gpus: int, words: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(UsageError, match=words) as refusal:
        load_run("runs/no-such-run", device)
    assert refusal.value.write


def test_one_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_device("cpu") == torch.device("cpu")
    assert check_device("cuda") == torch.device("cuda") and check_device("cuda:1").index == 1

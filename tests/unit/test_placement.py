"""Which device a rank takes, told by a torch that says how many there are: no GPU is touched."""

from __future__ import annotations

import pytest
import torch

from hvd_adam import comm
from hvd_adam.comm.placement import device_for, set_seed
from hvd_adam.comm.solo import SoloWorld
from hvd_adam.errors import ConfigError


def seen(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


@pytest.mark.parametrize(
    ("gpus", "local_rank", "carried", "device"),
    [
        (0, 1, True, "cpu"),
        (4, 3, True, "cuda:3"),
        (4, 5, True, "cuda:1"),  # more ranks than GPUs share them in turn
        (1, 0, True, "cuda:0"),  # a launcher that shows each rank its own
        (1, 3, True, "cuda:0"),
        (4, 3, False, "cpu"),  # a Horovod without NCCL takes no GPU's tensors
    ],
)
def test_a_rank_takes_the_gpu_of_its_number(
    gpus: int, local_rank: int, carried: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(monkeypatch, gpus)
    assert device_for(local_rank, carried) == torch.device(device)


def test_opening_a_world_makes_its_gpu_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, 2)
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(comm, "_end_together", lambda world: None)
    monkeypatch.setattr(comm, "_open", lambda engine: SoloWorld())
    assert comm.init("solo").device == torch.device("cuda:0")
    assert chosen == [torch.device("cuda:0")]


def test_a_seed_sets_the_states_that_torch_itself_would_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed", asked.append)
    torch.manual_seed(11)
    expected = torch.rand(5)
    set_seed(torch.device("cpu"), 11)
    assert torch.equal(torch.rand(5), expected) and not asked
    set_seed(torch.device("cuda:0"), 12)
    assert asked == [12]


def test_who_cannot_make_sums_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVD_ADAM_SUMS", "gloo")
    with pytest.raises(ConfigError, match="HVD_ADAM_SUMS=gloo") as refused:
        comm.init("solo")
    assert "set one of shared, direct, mpi, horovod" in str(refused.value).lower()

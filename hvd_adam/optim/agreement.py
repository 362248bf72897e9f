"""Do all ranks hold the same? Weights, configs, code: compared by hash, the odd one named; and what rank 0 decides."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import Counter
from typing import Any, Callable, Iterable, Mapping, TypeVar

import torch

from hvd_adam.comm.protocol import World
from hvd_adam.errors import HvdAdamError, RunError

Made = TypeVar("Made")


def digest(tensors: Iterable[torch.Tensor]) -> bytes:
    """A hash of the tensors' bits, in order."""
    state = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        state.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return state.digest()


def share_from_root(world: World, tensors: Iterable[torch.Tensor]) -> None:
    """Gives every rank rank 0's values, in place: one broadcast for each dtype and device.

    Raises:
        RunError: they differ afterwards.
    """
    tensors = [tensor.detach() for tensor in tensors]
    for dtype, device in dict.fromkeys((tensor.dtype, tensor.device) for tensor in tensors):
        alike = [tensor for tensor in tensors if (tensor.dtype, tensor.device) == (dtype, device)]
        flat = torch.cat([tensor.reshape(-1) for tensor in alike]).view(torch.uint8)
        world.broadcast(flat)
        parts = flat.view(dtype).split([tensor.numel() for tensor in alike])
        for tensor, part in zip(alike, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))
    refuse_drift(world, tensors, when="after the broadcast")


def refuse_drift(world: World, tensors: Iterable[torch.Tensor], when: str) -> None:
    """Raises RunError, naming the ranks whose bits are not those of the most."""
    found = world.allgather_bytes(digest(tensors))
    common, _ = Counter(found).most_common(1)[0]
    odd = [rank for rank, value in enumerate(found) if value != common]
    if odd:
        raise RunError(
            f"the parameters of rank {', '.join(map(str, odd))} differ from the others' {when}",
            "ranks that drift apart train different models, and their average trains none",
            "look for a step that only some ranks take, or for a changed weight outside the optimizer",
        )


def agree(world: World, facts: Mapping[str, Any]) -> None:
    """Checks before step 1 that every rank was started with the same facts.

    Raises:
        RunError: they differ; names the key, the ranks and their values.
    """
    found = [json.loads(text) for text in world.allgather_bytes(json.dumps(facts, sort_keys=True).encode())]
    for key in facts:
        values = [json.dumps(one.get(key)) for one in found]
        if len(set(values)) > 1:
            common, _ = Counter(values).most_common(1)[0]
            odd = next(rank for rank, value in enumerate(values) if value != common)
            raise RunError(
                f"{key} is {values[odd]} on rank {odd}, and {common} elsewhere",
                "ranks that run different code or settings would hang, or average different things",
                "start all ranks from one installation with one config",
            )


def from_root(world: World, decide: Callable[[], Made]) -> Made:
    """What `decide` gives on rank 0, on all ranks; where it raises, all ranks raise alike.

    Raises:
        HvdAdamError: what rank 0 raised, of the same kind.
    """
    told = b""
    if world.rank == 0:
        try:
            told = pickle.dumps((decide(), None))
        except HvdAdamError as error:
            told = pickle.dumps((None, error))
    made, refusal = pickle.loads(world.allgather_bytes(told)[0])
    if refusal is not None:
        raise refusal
    return made  # type: ignore[no-any-return]

"""Do all ranks hold the same? Weights, configs, code: compared by hash, the odd one named; and what rank 0 decides."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import Counter
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence, TypeVar

import torch

from hvd_adam.comm.protocol import World
from hvd_adam.errors import HvdAdamError, RunError
from hvd_adam.optim.buckets import strides_of

Made = TypeVar("Made")

_PIECE = 4 << 20  # bytes of a broadcast: what it takes beside the tensors


def digest(tensors: Iterable[torch.Tensor]) -> bytes:
    """A hash of the tensors' bits, in order."""
    state = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        state.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return state.digest()


def share_from_root(world: World, tensors: Iterable[torch.Tensor]) -> None:
    """Gives every rank rank 0's values, in place; small tensors travel together, large ones in pieces.

    Raises:
        RunError: they differ afterwards.
    """
    tensors = [tensor.data for tensor in tensors]  # their versions stay: another optimizer may look at them
    for some in _parcels(tensors):
        if len(some) == 1 and some[0].is_contiguous():
            for piece in some[0].view(-1).view(torch.uint8).split(_PIECE):
                world.broadcast(piece)
            continue
        flat = torch.cat([tensor.reshape(-1) for tensor in some])
        world.broadcast(flat.view(torch.uint8))
        for tensor, part in zip(some, flat.split([tensor.numel() for tensor in some]), strict=True):
            tensor.copy_(part.view(tensor.shape))
    refuse_drift(world, tensors, when="after the broadcast")


def _parcels(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Tensors of one dtype and device, as many as fit into a piece together, or one."""
    parcels: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
    sizes: Counter[tuple[torch.dtype, torch.device]] = Counter()
    for tensor in tensors:
        kind = (tensor.dtype, tensor.device)
        if sizes[kind] + tensor.nbytes > _PIECE and kind in parcels:
            yield parcels.pop(kind)
            sizes[kind] = 0
        if tensor.numel():
            parcels.setdefault(kind, []).append(tensor)
            sizes[kind] += tensor.nbytes
    yield from parcels.values()


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


def start_equal(
    world: World,
    parameters: Sequence[torch.Tensor],
    optimizer: torch.optim.Optimizer,
    model: torch.nn.Module | None,
    options: Mapping[str, Any],
) -> list[torch.Tensor]:
    """Checks that all ranks average in the same way, and gives them rank 0's weights and buffers.

    Args:
        parameters: those of `optimizer` whose gradients are averaged.
        model: may have more weights: frozen ones, or another optimizer's.
        options: of the averaging, by name.

    Returns all weights, of optimizer and model.

    Raises:
        RunError: a rank has another model, or averages it in another way.
    """
    owned = [one for group in optimizer.param_groups for one in group["params"]]
    weights = list(dict.fromkeys([*parameters, *owned, *(model.parameters() if model is not None else [])]))
    buffers = list(model.buffers()) if model is not None else []
    _agree_on_shapes(world, parameters, {"buffer": buffers, "other weight": weights[len(parameters) :]}, options)
    share_from_root(world, [*weights, *buffers])
    return weights


def _agree_on_shapes(
    world: World,
    parameters: Sequence[torch.Tensor],
    beside: Mapping[str, Sequence[torch.Tensor]],
    options: Mapping[str, Any],
) -> None:
    shapes = [(tuple(one.shape), strides_of(one), str(one.dtype), one.device.type) for one in parameters]
    count, short = sum(one.numel() for one in parameters), hashlib.blake2b(repr(shapes).encode(), digest_size=4)
    model = f"{len(shapes)} tensors of {count:,} numbers, shapes {short.hexdigest()}"
    counts = {f"the model's number of {kind}s": len(them) for kind, them in beside.items()}
    kinds = {
        f"{kind} {i} of the model": f"{tuple(one.shape)}, {one.dtype}"
        for kind, them in beside.items()
        for i, one in enumerate(them)
    }
    agree(world, {"the model": model, **counts, **kinds, **options})


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

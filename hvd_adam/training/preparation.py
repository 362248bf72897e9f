"""From a config to what a loop needs: data, model, optimizer, sampler. Every rank builds the same."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hvd_adam import data
from hvd_adam.comm import World
from hvd_adam.comm.placement import CPU
from hvd_adam.config import RunConfig, Target, check_schedules
from hvd_adam.errors import ConfigError
from hvd_adam.optim.averaging import DistributedOptimizer
from hvd_adam.optim.generic_adam import GenericAdam
from hvd_adam.optim.options import check_options
from hvd_adam.randomness import seed_for
from hvd_adam.tasks import Sampler, Task, get
from hvd_adam.tasks.registry import measures_of
from hvd_adam.training.condition import require_condition


@dataclass
class Parts:
    """What a run is made of; `steps` is T."""

    task: Task
    sampler: Sampler
    model: torch.nn.Module
    adam: GenericAdam
    steps: int


def check_task(config: RunConfig) -> Task:
    """The task, its name, options and targets checked; no data is read yet.

    Raises:
        ConfigError: one of them cannot be. What a task of one's own measures its first evaluation tells.
    """
    name, known = config.task.name, measures_of(config.task.name)
    task = get(name, **config.task.options)
    for target in config.until:
        if known and target.measure not in known:
            raise unknown_measure(target, name, known)
    return task


def unknown_measure(target: Target, task: str, known: Iterable[str]) -> ConfigError:
    """Why a run cannot end at this target."""
    return ConfigError(
        f"until: {target}",
        f"there is no such measure of {task}, so it would never be reached",
        f"choose one of {', '.join(known)}",
    )


def check_ranks(config: RunConfig, world: World) -> None:
    """Raises ConfigError where the config cannot be run on this number of ranks."""
    check_options(config.workers, world.size, config.accumulation, config.determinism, config.wire, config.noise_every)


def set_threads(config: RunConfig, local_size: int) -> None:
    """Threads of this rank: the config's, else the environment's, else the cores shared among the ranks here.

    Exact mode takes one thread and deterministic algorithms, so that no sum depends on how it was cut.
    """
    exact = config.determinism == "exact"
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # a GPU's products are refused without
    threads = config.threads or (1 if exact else None)
    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, len(os.sched_getaffinity(0)) // local_size)
    if threads:
        torch.set_num_threads(threads)
    # use_deterministic_algorithms says the same to torch's compiler, too: importing that takes as long as torch itself
    torch.set_deterministic_debug_mode("error" if exact else "default")


def prepare(config: RunConfig, task: Task, device: torch.device = CPU) -> Parts:
    """Reads the data, draws the weights (the same ones for every device), and makes the optimizer.

    Raises:
        DataError: data missing or damaged.
        ConfigError: what only the data can tell: a batch larger than an epoch, more test samples than there are,
            or none, a schedule that leaves its domain before the last step.
        ConditionError: condition: require, and it is not shown to hold.
    """
    task.prepare(_data_root(config))
    _check_facts(config.task.name, task)
    sampler = Sampler(
        task.train_size, config.local_batch * config.accumulation, config.workers, config.seed, config.sampling
    )
    _check_test_share(config, task)
    steps = planned_steps(config, task)
    member = config.member()
    check_schedules(member, steps)
    require_condition(config, steps)
    torch.manual_seed(seed_for("weights", config.seed))
    model = task.model().to(device, torch.float64 if config.precision == "float64" else torch.float32)
    dim = sum(p.numel() for p in model.parameters() if p.requires_grad)
    adam = GenericAdam(
        model.parameters(), **member.optimizer_arguments(batch=config.global_batch, dim=dim, steps=steps)
    )
    return Parts(task, sampler, model, adam, steps)


def _check_facts(name: str, task: Task) -> None:
    """What a task of one's own says of itself once its data is there."""
    for fact in ("train_size", "test_size"):
        size = getattr(task, fact, None)
        if type(size) is not int or size < 0:
            why = "it counts samples, as an int of Python"
            raise ConfigError(f"task {name}: {fact} is {size!r}", why, f"set self.{fact} = int(...) in prepare")
    if not isinstance(getattr(task, "target", None), str):
        raise ConfigError(
            f"task {name}: target is {getattr(task, 'target', None)!r}",
            "it is the name of the measure that a summary shows",
            'say target = "loss" in the class, or another of its measures',
        )


def _check_test_share(config: RunConfig, task: Task) -> None:
    if task.test_size < 1:
        raise ConfigError(
            f"task: {config.task.name} with test_size {task.test_size}",
            "an evaluation is the mean over test samples, and there are none",
            "let the task's prepare set some aside",
        )
    wanted = config.evaluate.test
    if wanted is not None and wanted > task.test_size:
        raise ConfigError(
            f"evaluate.test: {wanted:,} of {config.task.name}",
            f"it has {task.test_size:,} test samples",
            "take it out to measure all of them",
        )


def planned_steps(config: RunConfig, task: Task) -> int:
    """T: as many as the config says, or whole global batches in its epochs."""
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None
    steps = config.epochs * (task.train_size // config.global_batch)
    if steps < 1:
        raise ConfigError(
            f"epochs: {config.epochs} of {task.train_size} samples, global batch {config.global_batch}",
            "the data is endless" if task.train_size == 0 else "an epoch holds no whole batch",
            "say steps instead of epochs" if task.train_size == 0 else "lower workers, local_batch or accumulation",
        )
    return steps


def average(config: RunConfig, world: World, parts: Parts) -> DistributedOptimizer:
    """The optimizer over all workers; weights and buffers are those of rank 0 from here on."""
    return DistributedOptimizer(
        parts.adam,
        world,
        model=parts.model,
        workers=config.workers,
        accumulation=config.accumulation,
        clip_norm=config.clip_norm,
        bucket_mb=config.bucket_mb,
        wire=config.wire,
        determinism=config.determinism,
        seed=config.seed,
        check_every=config.check_every,
        noise_every=config.noise_every,
        share_weights=config.share_weights,
    )


def _data_root(config: RunConfig) -> Path:
    root = data.below_home(config.data) if config.data else data.data_root()
    if config.stage is None:
        return root
    name = config.task.name
    if name == "folder" or ":" in name:
        raise ConfigError(
            f"stage: {config.stage} with task {name}",
            "only sets that `hvd-adam data get` fetches are copied: nobody knows which files these are",
            "copy the data to that disk in the batch script, say data: DIR there, and take stage out",
        )
    return data.stage(config.task.name, root, data.below_home(config.stage))


def optimizer_state(parts: Parts) -> dict[str, Any]:
    """The optimizer's state by parameter name: independent of buckets, groups' order and ranks."""
    names: dict[Any, str] = {parameter: name for name, parameter in parts.model.named_parameters()}
    state = {names[parameter]: dict(values) for parameter, values in parts.adam.state.items()}
    return {"state": state, "t": [group["t"] for group in parts.adam.param_groups]}


def load_weights(model: torch.nn.Module, saved: dict[str, Any]) -> None:
    """Takes over weights and buffers by name.

    Raises:
        ConfigError: names or shapes that are not this model's, as after a change of the task's code.
    """
    mine = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in saved.items()}
    odd = next((name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)), None)
    if odd is not None:
        raise ConfigError(
            f"a checkpoint with {odd} of shape {theirs.get(odd, 'none')}",
            f"the model here has shape {mine.get(odd, 'none')} there: it is not the one that was saved",
            "resume with the task's code as it was, or start a new run",
        )
    model.load_state_dict(saved)


def load_optimizer_state(parts: Parts, saved: dict[str, Any]) -> None:
    """Takes over what `optimizer_state` gave, bit for bit, dtypes kept.

    Raises:
        ConfigError: another shape than this model's.
    """
    for name, parameter in parts.model.named_parameters():
        state = parts.adam.state[parameter]
        for key, value in saved["state"].get(name, {}).items():
            if key in state and state[key].shape != value.shape:
                raise ConfigError(
                    f"{key} of {name}: shape {tuple(value.shape)}",
                    f"this model has {tuple(state[key].shape)} there",
                    "resume with the model that the checkpoint was made with",
                )
            state[key] = value.to(state[key].device if key in state else value.device, copy=True)
    for group, t in zip(parts.adam.param_groups, saved["t"], strict=True):
        group["t"] = t

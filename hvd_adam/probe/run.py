"""The short run of a probe: real batches, real workers, real averages, each step measured."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Callable

from hvd_adam.comm import World, init
from hvd_adam.config import RunConfig, to_plain
from hvd_adam.errors import ConfigError
from hvd_adam.optim.outcome import Outcome
from hvd_adam.probe.curvature import CurvatureMeter
from hvd_adam.probe.findings import FEWEST, Findings, Measured, find
from hvd_adam.probe.grid import study_yaml
from hvd_adam.training.batches import autocast, batches
from hvd_adam.training.launch_facts import agree_before_step_1
from hvd_adam.training.preparation import Parts, average, check_task, prepare, set_threads
from hvd_adam.training.rundir import keep_config, open_run, write_json
from hvd_adam.training.trace import Trace

MARKS = (0.5, 0.9)  # shares of the seconds at which the run stops to measure curvature; it ends at the last
PATIENCE = 3.0  # times the seconds that were asked for, at most
CURVATURE_SHARE = 0.1  # of the seconds, for each of its three measurements
EXPLODED = 1e6  # times the first gradient norm
LEAST = 1e-70  # gradient norm to aim at: its fourth power is a number still


def probe(
    config: RunConfig,
    seconds: float,
    run: str | None = None,
    eps: float | None = None,
    say: Callable[[str], None] | None = None,
    world: World | None = None,
) -> Findings | None:
    """Trains for a while on all ranks, and finds what it takes to predict the elbow; None off rank 0.

    Args:
        seconds: wall time, about; the run ends earlier where the config's steps do.
        run: folder to write; None makes one under runs/NAME/.
        eps: gradient norm that a study would aim at; None takes that of the late part.
        say: takes each line of progress, on rank 0.
        world: one that is open, and stays open.

    Raises:
        ConfigError: one worker; seconds <= 0; the run diverged. What was measured by then is in the folder.
    """
    _check(config, seconds, eps)
    task = check_task(config)
    mine = world is None
    world = world or init(config.engine)
    set_threads(config, world.local_size)
    config = config.model_copy(update={"noise_every": 1})
    parts = prepare(config, task, world.device)
    agree_before_step_1(world, config, parts.steps)
    path = _folder(world, config, run)
    keep_config(world, path, config)
    measured = _Run(config, world, parts, path, seconds, say if world.rank == 0 else None).go()
    findings = None
    if world.rank == 0:
        findings = find(measured, eps)
        write_json(path / "probe.json", findings.to_plain())
        (path / "study.yaml").write_text(study_yaml(findings), encoding="utf-8")
    world.barrier()
    if mine:
        world.close()
    return findings


def _check(config: RunConfig, seconds: float, eps: float | None) -> None:
    if config.workers < 2:
        raise ConfigError(
            f"workers: {config.workers}",
            "the noise scale compares each worker's gradient with the average of all, and needs at least 2",
            "add workers=2 (one rank can play both)",
        )
    if not 0 < seconds < math.inf:
        raise ConfigError(f"--seconds {seconds:g}", "a run takes some time", "give --seconds 60, for instance")
    if eps is not None and not 0 < eps < math.inf:
        raise ConfigError(f"--eps {eps:g}", "no run brings the gradient norm to 0 or below", "give --eps above 0")
    if eps is not None and not LEAST <= eps <= 1 / LEAST:
        raise ConfigError(
            f"--eps {eps:g}",
            "steps go with its fourth power, which is no number that can be computed with",
            f"give --eps between {LEAST:g} and {1 / LEAST:g}",
        )


def _folder(world: World, config: RunConfig, asked: str | None) -> Path:
    """`asked`, or the first free runs/NAME/probe-K as rank 0 sees it."""
    number = 1
    while (Path("runs") / str(config.name) / f"probe-{number}").exists():
        number += 1
    try:
        return open_run(world, config, asked or f"runs/{config.name}/probe-{number}", resume=False)
    except ConfigError as error:
        raise ConfigError(error.found, "it holds files, and a probe never overwrites", "name a new folder") from error


class _Run:
    def __init__(
        self,
        config: RunConfig,
        world: World,
        parts: Parts,
        path: Path,
        seconds: float,
        say: Callable[[str], None] | None,
    ) -> None:
        self.config, self.world, self.parts, self.seconds, self.say = config, world, parts, seconds, say
        self.optimizer = average(config, world, parts)
        self.meter = CurvatureMeter(config, world, parts, self.optimizer)
        file = path / "trace.jsonl" if world.rank == 0 else None
        self.trace = Trace(file, probe=True, steps=parts.steps, config=to_plain(config))
        self.started = time.perf_counter()
        self.measured = Measured(
            config=to_plain(config),
            path=path,
            ranks=world.size,
            engine=world.engine,
            planned_steps=parts.steps,
            dim=sum(p.numel() for p in parts.model.parameters() if p.requires_grad),
            train_size=parts.task.train_size,
        )

    def go(self) -> Measured:
        """Steps until time or the config's steps are over, with the curvature at three points."""
        try:
            step = 0
            self._curvature(step)
            for mark in MARKS:
                while step < self.parts.steps:
                    step += 1
                    outcome = self._step(step, mark)
                    self._record(step, outcome)
                    if outcome.stop_asked:
                        break
                if step > self.measured.curvature[-1].step:
                    self._curvature(step)
            self.trace.write("end", step=step, status="done")
        finally:
            self.trace.close()
        seconds = time.perf_counter() - self.started
        return replace(self.measured, seconds=seconds)

    def _step(self, step: int, mark: float) -> Outcome:
        for worker in self.optimizer.workers(step):
            for batch in batches(self.config, self.world, self.parts, step, worker):
                with autocast(self.config, self.world):
                    loss = self.parts.task.loss(self.parts.model, batch)
                loss.backward()
                self.optimizer.add(loss.detach(), self.config.local_batch)
        outcome = self.optimizer.step(stop=self.world.rank == 0 and self._is_over(step, mark))
        self.optimizer.zero_grad()
        return outcome

    def _is_over(self, step: int, mark: float) -> bool:
        """Rank 0's clock decides for all, through the flag that rides the step; too few steps get more time."""
        share = self._share()
        return share >= mark and (step >= mark * FEWEST / MARKS[-1] or share >= PATIENCE)

    def _record(self, step: int, outcome: Outcome) -> None:
        self.trace.write(
            "step", step=step, loss=outcome.loss, grad_norm=outcome.grad_norm, worker_square=outcome.worker_square
        )
        if outcome.overflowed:  # on the wire alone, which has scaled down
            return
        steps, first = self.measured.steps, self.measured.mean_square
        if outcome.skipped or (steps and outcome.grad_norm > EXPLODED * math.sqrt(first[0])):
            self.trace.write("end", step=step, status="diverged")
            raise ConfigError(
                f"the run diverged at step {step}: loss {outcome.loss:.3g}, gradient norm {outcome.grad_norm:.3g}",
                f"past that point there is no noise scale; what came before is in {self.measured.path / 'trace.jsonl'}",
                "lower the learning rate (algorithm.lr), or set clip_norm",
            )
        assert outcome.worker_square is not None
        steps.append(step)
        self.measured.loss.append(outcome.loss)
        self.measured.worker_square.append(outcome.worker_square)
        first.append(outcome.grad_norm**2)

    def _curvature(self, step: int) -> None:
        until = self._share() + CURVATURE_SHARE
        found = self.meter.measure(step, lambda: self._share() >= until)
        self.measured.curvature.append(found)
        self.trace.write("curvature", **found._asdict())
        if self.say:
            shown = "none" if found.value is None else f"{found.value:.4g}"
            loss = f", loss {self.measured.loss[-1]:.4g}" if self.measured.loss else ""
            self.say(f"step {step}/{self.parts.steps}{loss}, largest curvature {shown}")

    def _share(self) -> float:
        return (time.perf_counter() - self.started) / self.seconds

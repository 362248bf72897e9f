"""`hvd-adam probe`: known noise and curvature come out of the real path; what it writes; its mistakes.

HVD_ADAM_CAMPAIGN=1 takes 200 repeats of each problem and number of workers, 2 to 64, instead of a few.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hvd_adam.cli import main
from hvd_adam.comm import World
from hvd_adam.comm.solo import SoloWorld
from hvd_adam.config import RunConfig, from_plain, load
from hvd_adam.probe import curvature as curvatures
from hvd_adam.probe.findings import Findings
from hvd_adam.probe.run import probe
from hvd_adam.probe.wording import describe, said
from hvd_adam.study import config as study_config
from hvd_adam.study.plan import plan
from hvd_adam.theory.elbow import Range
from hvd_adam.theory.noise import noise_scale
from hvd_adam.training.batches import batches
from hvd_adam.training.preparation import Parts
from hvd_adam.training.trace import read

CAMPAIGN = bool(os.environ.get("HVD_ADAM_CAMPAIGN"))
QUADRATIC = """
task: {name: quadratic, d: 20, condition: 10, sigma: 3.0}
algorithm: {name: adam, lr: 0.02}
workers: 4
local_batch: 2
steps: 60
sampling: replacement
precision: float64
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "quad.yaml"
    path.write_text(QUADRATIC)
    return path


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hvd-adam", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


PROBLEMS = {
    # at the start: largest eigenvalue, tr Sigma, ||grad f||^2
    "quadratic": (
        {"name": "quadratic", "d": 20, "condition": 10, "sigma": 3.0},
        1.0,
        9.0,
        float((np.geomspace(1, 0.1, 20) ** 2).sum()),  # h x, x = 1
    ),
    "toy": (
        {"name": "toy", "d": 10, "sigma": 10.0},
        2 + 6 * math.cos(6),  # 2 + 2 a cos(2 x), x = 3
        100.0,
        10 * (6 + 3 * math.sin(6)) ** 2,  # 2 x + a sin(2 x)
    ),
}


def measured(task: dict[str, Any], workers: int, seed: int, run: Path, steps: int = 36) -> Findings:
    """A probe that stays at the start, where the truth is known."""
    document = {
        "task": task, "algorithm": {"name": "adam", "lr": 0.0}, "workers": workers, "local_batch": 2,
        "steps": steps, "sampling": "replacement", "precision": "float64", "seed": seed,
    }  # fmt: skip
    found = probe(from_plain(document), seconds=3600.0, run=str(run), world=SoloWorld())
    assert found is not None
    return found


@pytest.mark.parametrize("workers", [2, 8, 64, 4, 16, 32] if CAMPAIGN else [2, 8])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_real_path_measures_known_noise_and_curvature_without_bias(
    tmp_path: Path, problem: str, workers: int
) -> None:
    # at one point one long probe is many short ones: stretches of 12 steps share no sample
    torch.set_num_threads(1)
    task, curvature, trace, square = PROBLEMS[problem]
    repeats = 200 if CAMPAIGN else 24
    found = measured(task, workers, 1, tmp_path / "run", steps=12 * repeats)
    points = found.measured.curvature
    assert all(point.settled and point.value == pytest.approx(curvature, rel=0.02) for point in points)
    pairs = np.reshape([found.measured.worker_square, found.measured.mean_square], (2, repeats, 12))
    parts = [noise_scale(*pairs[:, k], local_batch=2, workers=workers) for k in range(repeats)]
    for name, truth in (("trace", trace), ("square", square), ("scale", trace / square)):
        values = [getattr(part, name).value / truth - 1 for part in parts]
        error = float(np.std(values, ddof=1)) / math.sqrt(repeats)
        print(f"{problem}, {workers} workers, {name}: {100 * np.mean(values):+.2f} % +- {100 * error:.2f}", flush=True)
        assert abs(np.mean(values)) <= (0.05 if CAMPAIGN else max(0.02, 4.5 * error))


def test_the_gradients_square_is_that_of_the_exact_gradient(tmp_path: Path) -> None:
    # lr 0 stays at the start, where grad f = h x is known
    document = {
        "task": PROBLEMS["quadratic"][0], "algorithm": {"name": "adam", "lr": 0.0}, "workers": 8, "local_batch": 4,
        "steps": 150, "sampling": "replacement", "precision": "float64",
    }  # fmt: skip
    found = probe(from_plain(document), seconds=3600.0, run=str(tmp_path / "run"), world=SoloWorld())
    assert found is not None
    square = float((np.geomspace(1, 0.1, 20) ** 2).sum())
    for part in (found.early, found.late):
        assert part.noise.square.low < square < part.noise.square.high
        assert part.noise.scale.low < 9 / square < part.noise.scale.high
        assert part.noise.scale.high < 2 * part.noise.scale.low
    assert found.eps == pytest.approx(square**0.5, rel=0.1)
    assert found.gradient_bound == pytest.approx((square + 9) ** 0.5, rel=0.15)


def test_a_probe_writes_all_that_predict_and_a_study_need(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "probe", config, "--seconds", "120") == 0
    said = capsys.readouterr().out
    folder = Path("runs/quad/probe-1")
    for words in ("noise scale, samples", "order of magnitude: constants of an upper bound", "single run", "brackets"):
        assert words in said
    facts = json.loads((folder / "probe.json").read_text())
    assert facts["kind"] == "probe" and facts["steps"] == 60 and facts["dim"] == 20 and facts["worker_batch"] == 2
    lines = read(folder / "trace.jsonl")
    assert sum("worker_square" in line for line in lines) == 60 and lines[-1]["status"] == "done"
    assert load(folder / "config.yaml").noise_every == 1 and load(folder / "config.yaml").steps == 60
    study = study_config.load(folder / "study.yaml")
    batches = [cell.batch for cell in plan(study).cells]
    assert batches[0] <= facts["elbow"]["low"] < facts["elbow"]["high"] <= batches[-1]
    assert call(monkeypatch, "predict", folder, "--json") == 0
    prediction = json.loads(capsys.readouterr().out)
    assert prediction["sigma"]["value"] == pytest.approx(facts["late"]["trace"]["value"] ** 0.5)
    assert prediction["eps"] == pytest.approx(facts["eps"]) and prediction["theta"] is None
    assert call(monkeypatch, "probe", config, "--seconds", "120", "--json", "--eps", "0.5") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["early"] == facts["early"] and again["eps"] == 0.5
    assert again["elbow"]["low"] == pytest.approx(0.3 * facts["late"]["trace"]["low"] / 0.25)
    assert Path("runs/quad/probe-2/probe.json").is_file()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["workers=1"], 2, "Add workers=2"),
        (["--eps", "0"], 2, "Give --eps above 0"),
        (["--eps", "-1"], 2, "Give --eps above 0"),
        (["--eps", "1e-200"], 2, "Give --eps between 1e-70 and 1e+70"),
        (["--seconds", "0"], 2, "Give --seconds 60"),
        (["--seconds", "nan"], 2, "Give --seconds 60"),
        (["algorithm.lr=1e12"], 2, "diverged at step 2"),
        (["algorithm.lr=1e300"], 2, "Lower the learning rate"),
        (["steps=20"], 1, "Set steps=36 or more"),
        (["task.nodes=3"], 2, "It has no such option"),
    ],
)
def test_each_mistake_has_its_message_and_exit_code(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    assert call(monkeypatch, "probe", config, "--seconds", "60", *words) == code
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_what_was_measured_before_a_divergence_is_kept(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "probe", config, "algorithm.lr=1e12", "--run", "lost") == 2
    assert "lost/trace.jsonl" in capsys.readouterr().err
    lines = read(Path("lost/trace.jsonl"))
    assert lines[-1]["status"] == "diverged" and any("worker_square" in line for line in lines)
    assert call(monkeypatch, "probe", config, "--run", "lost") == 2
    assert "a probe never overwrites" in capsys.readouterr().err


def test_a_step_that_overflows_on_the_wire_alone_is_no_divergence(tmp_path: Path, monkeypatch, capsys) -> None:
    """Gradients of 4e4 by 1,024 are more than half precision holds: one step is left out, and the scale falls."""
    monkeypatch.chdir(tmp_path)
    Path("far.yaml").write_text("task: {name: toy, start: 20000}\nsteps: 60\nworkers: 2\nwire: fp16\n")
    assert call(monkeypatch, "probe", "far.yaml", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["steps"] == 59


def test_time_ends_a_probe_that_has_many_steps_left(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "probe", config, "--seconds", "1", "steps=1000000", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert 36 <= facts["steps"] < 100_000 and len(facts["curvature"]) == 3


def test_batch_norms_buffers_and_the_weights_are_as_without_curvature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a probe takes the steps that training takes
    from hvd_adam.training.loop import train

    monkeypatch.setattr(curvatures, "SAMPLES", 32)
    document = {
        "task": {"name": "digits", "batch_norm": True, "dropout": 0.1}, "steps": 36, "workers": 2, "local_batch": 4
    }  # fmt: skip
    found = probe(from_plain(document), seconds=3600.0, run=str(tmp_path / "probe"), world=SoloWorld())
    assert found is not None and found.lipschitz is not None and found.lipschitz > 0
    train(from_plain({**document, "name": "t"}), str(tmp_path / "run"), False, world=SoloWorld())
    losses = [line["loss"] for line in read(tmp_path / "run/trace.jsonl") if line["kind"] == "step"]
    assert found.measured.loss == losses


def test_the_weights_lie_where_the_samples_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(config: RunConfig, world: World, parts: Parts) -> None:
        (batch,) = batches(config, world, parts, 1, 0)
        places.append({tensor.device.type for tensor in (*batch, *parts.model.parameters())})
        raise InterruptedError

    places: list[set[str]] = []
    world = SoloWorld()
    world.device = torch.device("meta")
    monkeypatch.setattr("hvd_adam.probe.run.average", look)
    with pytest.raises(InterruptedError):
        probe(from_plain({"task": "toy", "steps": 36}), seconds=60.0, run=str(tmp_path / "run"), world=world)
    assert places == [{"meta"}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Range(0.5, 0.25, 1.9), "0.5 (0.25 to 1.9)"),
        (Range(0.0, 0.0, 0.0), "0 (0 to 0)"),
        (Range(-1.77, 0.0, 1.9), "at most 1.9"),  # no mean square is below 0
        (Range(math.inf, 12.0, math.inf), "at least 12"),
    ],
)
def test_no_estimate_is_printed_outside_of_its_interval(value: Range, text: str) -> None:
    assert said(value) == text


def test_a_probe_knows_whether_its_samples_are_shared_out(tmp_path: Path) -> None:
    for sampling, size in (("epochs", 1438), ("replacement", 0)):
        document = {
            "task": {"name": "digits", "model": "softmax"}, "algorithm": {"name": "adam", "lr": 0.0}, "workers": 2,
            "local_batch": 64, "steps": 36, "sampling": sampling,
        }  # fmt: skip
        found = probe(from_plain(document), seconds=3600.0, run=str(tmp_path / sampling), world=SoloWorld())
        assert found is not None and found.measured.shared_out == size
        parts = found.measured.worker_square[24:], found.measured.mean_square[24:]
        assert found.late.noise == noise_scale(*parts, local_batch=64, workers=2, shared_out=size)


class Rough:
    """A task of one weight whose loss has no second derivative, or none that is finite."""

    name, target, train_size, test_size = "rough", "loss", 0, 1

    def __init__(self, kind: str = "none") -> None:
        self.kind = kind

    def prepare(self, root: Path) -> None:
        pass

    def model(self) -> torch.nn.Module:
        return torch.nn.Linear(1, 1, bias=False)

    def batch(self, indices: np.ndarray, generator: torch.Generator, train: bool) -> tuple[torch.Tensor, ...]:
        return (torch.from_numpy(np.sin(indices.astype(float)))[:, None],)

    def loss(self, model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if self.kind == "linear":
            return (model(batch[0]) * batch[0]).mean()
        return _NoSecond.apply(model.weight).square().sum() + (model(batch[0]) * batch[0]).mean()

    def measures(self, model: Any, batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        return {"loss": self.loss(model, batch)}


class _NoSecond(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        return slope


class HalfFrozen(Rough):
    """Beside the weight that learns a bias of three numbers that does not."""

    def model(self) -> torch.nn.Module:
        network = super().model()
        network.register_parameter("still", torch.nn.Parameter(torch.zeros(3), requires_grad=False))
        return network


def test_d_counts_what_is_trained(tmp_path: Path) -> None:
    assert measured({"name": f"{__name__}:HalfFrozen"}, 2, 0, tmp_path / "run").measured.dim == 1


@pytest.mark.parametrize("kind", ["none", "linear"])
def test_a_loss_without_second_derivative_is_told_and_not_fatal(tmp_path: Path, kind: str) -> None:
    found = measured({"name": f"{__name__}:Rough", "kind": kind}, 2, 0, tmp_path / "run")
    point = found.measured.curvature[0]
    assert point.value is None and not point.settled and "the second derivative is 0" in point.why
    assert "no curvature: the second derivative is 0" in describe(found)
    assert "none at step 0, none at step" in describe(found) and "(at least)" not in describe(found)
    assert found.lipschitz is None

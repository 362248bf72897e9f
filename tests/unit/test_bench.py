"""Benchmarks: the arithmetic of ratios against closed forms, and what a wrong name ends with. Jobs: tests/jobs."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hvd_adam.bench import growth, optimizer, surroundings, throughput
from hvd_adam.bench.allreduce import Exchange, lines, read_size, sizes
from hvd_adam.bench.memory import Held
from hvd_adam.bench.names import INSTALLED, LAUNCHER
from hvd_adam.bench.peers import PEERS
from hvd_adam.bench.ratios import latency_and_bandwidth, median, medians, ratio
from hvd_adam.bench.step import Comparison, Row, compare, held, table
from hvd_adam.bench.workloads import DTYPES, WORKLOADS, loaded, loss_of, shapes_of, workload
from hvd_adam.cli import cli
from hvd_adam.errors import ConfigError, RunError


def test_a_slowdown_that_a_whole_round_shares_leaves_the_ratio_alone() -> None:
    noise = np.random.default_rng(1).lognormal(0, 1.0, 9)
    found = ratio((3e-3 * noise).tolist(), (2e-3 * noise).tolist())
    assert found.value == pytest.approx(1.5)
    assert (found.low, found.high) == (pytest.approx(1.5), pytest.approx(1.5))


@pytest.mark.parametrize(("rounds", "level"), [(5, 30), (6, 62), (7, 126), (8, 254), (9, 492), (10, 1002)])
def test_the_intervals_of_medians_hold_the_truth_as_often_as_they_say(rounds: int, level: int) -> None:
    """Each value lies above or below a law's median, 0, as often: of all 2^n patterns so many have it inside."""
    held = 0
    for signs in product((-1, 1), repeat=rounds):
        found = median([sign * (1.0 + i) for i, sign in enumerate(signs)])
        held += found.low <= 0 <= found.high
    assert held == level
    assert f" {100 * level / 2**rounds:.4g} % intervals" in medians(rounds)
    assert level / 2**rounds >= 0.95 or rounds == 5


@pytest.mark.parametrize(("rounds", "said"), [(1, "2 (single run)"), (4, "2 (n = 4)"), (5, "2.000 (2.000 to 2.000)")])
def test_few_rounds_get_no_interval(rounds: int, said: str) -> None:
    assert str(median([2.0] * rounds)) == said


def test_latency_and_bandwidth_of_exact_times_come_back() -> None:
    bytes_sent = [2.0**k for k in range(10, 30, 2)]
    line = latency_and_bandwidth(bytes_sent, [20e-6 + b / 5e9 for b in bytes_sent])
    assert line.latency == pytest.approx(20e-6)
    assert line.bandwidth == pytest.approx(5e9)
    assert line.worthwhile == pytest.approx(9 * 20e-6 * 5e9)  # a tenth of its time is latency


@pytest.mark.parametrize(("text", "size"), [("1K", 1024), ("4m", 4 << 20), ("1G", 1 << 30), ("5000", 5000)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert read_size(text) == size


def test_sizes_go_up_by_four_and_end_at_the_largest() -> None:
    assert sizes(5000) == [1024, 4096, 5000]
    assert sizes(1024) == [1024]


@pytest.mark.parametrize(
    ("name", "total"), [("lenet", 431_080), ("1e6", 10**6), ("2500000", 2_500_000), ("1000x10", 10**4)]
)
def test_parameters_by_name(name: str, total: int) -> None:
    assert sum(int(np.prod(shape)) for shape in shapes_of(name)) == total


def test_the_transformer_has_about_ten_million_weights_and_every_model_takes_its_batch() -> None:
    assert sum(int(np.prod(shape)) for shape in shapes_of("transformer")) == pytest.approx(10e6, rel=0.05)
    for load in WORKLOADS.values():
        assert loss_of(load.build(), load.batch(2)).item() > 0


def test_the_table_has_our_step_to_each_peer() -> None:
    rows = [Row("hvd_adam", "launcher's", [1.0] * 5, 0), Row("ddp", "as installed", [2.0] * 5, 0)]
    found = Comparison("lenet", 2, 3, rows, {"horovod": "horovod is not installed"})
    ours = [found.ratio(row) for row in rows]
    assert [r.value for r in ours if r] == [1.0, 0.5]
    columns = [list(column.cells) for column in table(found).columns]
    assert columns[0] == ["1.000 (1.000 to 1.000)", "0.500 (0.500 to 0.500)", ""]
    assert columns[4][2] == "horovod is not installed"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["step", "--model", "lenett"], "model: lenett.\n  Bench knows no such model.\n  Did you mean lenet?"),
        (["step", "--peers", "ddpp"], "peer: ddpp.\n  Bench knows no such peer.\n  Did you mean ddp"),
        (["allreduce", "--largest", "3X"], "size: 3X.\n"),
        (["allreduce", "--largest", "10"], "size: 10.\n"),
        (["allreduce", "--piece", "4"], "size: 4.\n"),
        (
            ["allreduce", "--ways", "shared,raw rng"],
            "way: raw rng.\n  Bench knows no such way.\n  Did you mean raw ring?",
        ),
        (["optimizer", "--parameters", "many"], "parameters: many.\n"),
        (
            ["optimizer", "--peers", "torch fusd"],
            "peer: torch fusd.\n  Bench knows no such peer.\n  Did you mean torch fused?",
        ),
        (["step", "--model", "0x10"], "model: 0x10.\n"),
        (["scale", "--model", "resnet"], "model: resnet.\n  Bench knows no such model.\n  Did you mean resnet18?"),
        (["scale", "--parameters", "1e"], "parameters: 1e.\n"),
        (["scale", "--ranks", "1,0"], "ranks: 1,0.\n  They are whole numbers above zero.\n"),
        (["scale", "--workers", "two"], "workers: two.\n"),
        (["memory", "--model", "lenett"], "model: lenett.\n"),
        (["step", "--peers", ""], 'peer: "".\n'),
        (["step", "--model", "1e30"], "parameters: 1e30.\n  More than a million tensors are not made here.\n"),
        (["optimizer", "--parameters", "99999999999999999999x1"], "parameters: 99999999999999999999x1.\n"),
        (["optimizer", "--parameters", "²x1"], "parameters: ²x1.\n"),
        (["scale", "--ranks", "²"], "ranks: ².\n"),
        (["allreduce", "--largest", "²K"], "size: ²K.\n"),
        (
            ["start", "--out", "/proc/none/s.json"],
            "What is measured could not be kept there: No such file or directory",
        ),
        (
            ["start", "--out", "configs"],
            "What is measured could not be kept there: Is a directory.\n  Name another file",
        ),
        (["start", "--plot", "a.gif"], "--plot a.gif.\n  There is no such kind of picture.\n  End it in .svg or .png"),
        (["study", "configs/studies/none.yaml"], "configs/studies/none.yaml"),
    ],
)
def test_a_wrong_name_is_said_before_anything_starts(arguments: list[str], expected: str) -> None:
    done = CliRunner().invoke(cli, ["bench", *arguments])
    assert isinstance(done.exception, ConfigError)
    assert expected in str(done.exception)
    assert done.exception.exit_code == 2


@pytest.mark.parametrize("peer", optimizer.PEERS)
def test_every_optimizer_takes_a_step_on_what_it_is_given(peer: str) -> None:
    step = optimizer.build(peer, "3x5", "float32")
    step(0)
    step(1)


def test_every_peer_says_what_it_is() -> None:
    assert all(peer.what for peer in PEERS.values())


def test_a_model_without_work_has_the_parameters_of_its_name_and_a_gradient_for_each_of_them() -> None:
    model = workload("3x5").build()
    loss_of(model, workload("3x5").batch(2)).backward()
    assert [tuple(p.shape) for p in model.parameters()] == [(5,)] * 3
    assert all(p.grad is not None and p.grad.abs().min() > 0 for p in model.parameters())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["lenet", "transformer", "1e4"])
def test_models_take_their_batch_in_each_precision(name: str, dtype: str) -> None:
    model, batch = loaded(workload(name), 2, DTYPES[dtype])
    loss = loss_of(model, batch)
    assert loss.dtype == DTYPES[dtype] == next(model.parameters()).dtype


def test_exponents_of_exact_powers_come_back_whatever_the_rounds_share() -> None:
    noise = np.random.default_rng(0).lognormal(0, 1, 6)
    points = [
        growth.Point(name, 2, 1, tuple(3e-9 * float(name) ** 0.9 * noise)) for name in ("1e4", "1e6", "1e7", "1e8")
    ]
    points += [growth.Point("lenet", r, w, tuple(1e-3 * w**1.1 * r**0.2 * noise)) for r in (1, 2, 4) for w in (1, 2, 8)]
    found = growth.Growth(points).exponents()
    by = {(one.against, one.of): one for one in growth.growth_of(growth.Growth(points).to_plain()).exponents()}
    assert len(by) == len(found) == 1 + 3 + 3
    sized = by["parameters", "synthetic, 2 ranks"]
    assert sized.ends == (1e6, 1e8)  # smaller ones say what latency is
    assert (sized.value.value, sized.value.low, sized.value.high) == pytest.approx((0.9, 0.9, 0.9))
    assert by["workers a rank", "lenet, 2 ranks"].value.value == pytest.approx(1.1)
    assert by["ranks", "lenet, 8 workers a rank"].value.value == pytest.approx(0.2)


def test_the_model_of_seconds_is_fitted_to_what_scale_has_timed() -> None:
    from hvd_adam.commands.bench_more import seconds_models

    def seconds(ranks: int, workers: int) -> float:
        return 2e-3 + 1e-4 * 32 * workers + 5e-4 * 2 * (ranks - 1)

    points = [growth.Point("lenet", r, w, (seconds(r, w),) * 2) for r in (1, 2, 4) for w in (1, 4)]
    said, plain = seconds_models(growth.Growth(points))
    assert plain["lenet"]["coefficients"] == pytest.approx([2e-3, 1e-4, 5e-4, 0], abs=1e-9)
    assert said[0].startswith("lenet: 2 ms a step + 0.1 ms a sample + 0.5 ms x 2 (n - 1)")
    assert seconds_models(growth.Growth(points[:2])) == ([], {})  # one number of ranks says nothing of more


def test_the_least_memory_is_a_bare_steps_and_two_moments() -> None:
    parameters = 4 * 431_080
    bare = (parameters * 2 + 1000,) * 5  # parameters, gradients and activations
    assert Held("lenet", tuple(2 * (b + 2 * parameters) for b in bare), bare).ratio.value == 2


def test_runs_an_hour_are_those_of_the_study_to_those_launched_alone() -> None:
    found = throughput.Throughput("s.yaml", 20, [2.0] * 5, [9.0] * 5)
    assert found.ratio.value == 4.5
    assert throughput.lines(found)[1] == "s.yaml, 20 runs: 1,800 an hour, and 400 where each is launched by itself"


def test_a_run_that_fails_ends_the_benchmark_with_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="It printed:\n    hvd-adam: "):
        throughput.measure(str(tmp_path / "none.yaml"), (), 1)


def test_a_peer_that_is_not_installed_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvd_adam.bench.peers.find_spec", lambda name: None)
    assert PEERS["horovod"].why_not("float32") == "horovod is not installed"
    monkeypatch.setattr("torch.distributed.is_mpi_available", lambda: False)
    assert PEERS["ddp-mpi"].why_not("float32") == "this torch is built without MPI"
    assert PEERS["ddp"].why_not("bfloat16") == ""
    monkeypatch.undo()
    assert PEERS["horovod"].why_not("bfloat16") == "it does not average bfloat16"


class NoJobs:
    """Stands in for jobs: every step takes a second."""

    started: list[str] = []
    failing: dict[str, str] = {}

    def __init__(self, jobs, seed=0, needed=None) -> None:
        self.failed = {job.name: self.failing[job.name] for job in jobs if job.name in self.failing}
        self.names = NoJobs.started = [job.name for job in jobs if job.name not in self.failed]
        self.memory = dict.fromkeys(self.names, 1)

    def __enter__(self) -> NoJobs:
        return self

    def __exit__(self, *_: object) -> None: ...

    def calibrate(self, *_: object) -> int:
        return 3

    def calibrate_each(self, *_: object) -> dict[str, int]:
        return dict.fromkeys(self.names, 3)

    def rounds(self, count: int, *_: object):
        for _ in range(count):
            yield dict.fromkeys(self.names, 1.0)


def test_jobs_that_memory_does_not_hold_are_left_out_ours_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvd_adam.bench.step.Crews", NoJobs)
    monkeypatch.setattr("hvd_adam.bench.step.free_memory", lambda: 3 * 2 * (held("1e7", 4) + (300 << 20)))
    found = compare("1e7", 2, ["ddp", "ddp-fused"], 1)
    assert NoJobs.started == ["hvd_adam (launcher's)", "hvd_adam (as installed)", "ddp (launcher's)"]
    assert set(found.left_out) == {f"ddp ({INSTALLED})", f"ddp-fused ({LAUNCHER})", f"ddp-fused ({INSTALLED})"}
    assert found.left_out[f"ddp-fused ({LAUNCHER})"] == "beside the others it needs 981 MB and 0 MB are free"


def test_a_peer_that_does_not_start_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvd_adam.bench.step.Crews", NoJobs)
    monkeypatch.setattr(NoJobs, "failing", {"ddp (as installed)": "no port"})
    found = compare("lenet", 1, ["ddp"], 2)
    assert found.left_out == {"ddp (as installed)": "it does not start: no port"}
    assert [row.name for row in found.rows] == ["hvd_adam (launcher's)", "hvd_adam (as installed)", "ddp (launcher's)"]


def test_jobs_that_start_anew_for_every_round_are_asked_for_those_that_started_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts: list[tuple[int, list[str] | None]] = []

    class Starts(NoJobs):
        def __init__(self, jobs, seed=0, needed=None) -> None:
            starts.append((seed, needed))
            super().__init__(jobs)

        def rounds(self, count: int, *_: object):
            yield dict.fromkeys(self.names, float(len(starts)))

    monkeypatch.setattr("hvd_adam.bench.step.Crews", Starts)
    monkeypatch.setattr(NoJobs, "failing", {"ddp (as installed)": "no port"})
    found = compare("lenet", 1, ["ddp"], 3, fresh=True)
    names = ["hvd_adam (launcher's)", "hvd_adam (as installed)", "ddp (launcher's)"]
    assert starts == [(0, names[:1]), (1, names), (2, names)]
    assert {row.name: row.seconds for row in found.rows} == {name: [1.0, 2.0, 3.0] for name in names}


def test_the_fastest_raw_algorithm_by_size() -> None:
    def by(ring: float, doubling: float) -> dict[str, list[float]]:
        return {"horovod": [1.0], "raw ring": [ring], "raw recursive doubling": [doubling]}

    found = Exchange(2, ("horovod", "raw ring", "raw recursive doubling"))
    found.seconds = {1024: by(2, 1), 4096: by(2, 1), 16384: by(3, 4)}
    assert found.crossovers() == [(1024, "raw recursive doubling"), (16384, "raw ring")]
    assert "the fastest raw algorithm: from 1,024 bytes recursive doubling, from 16,384 bytes ring" in lines(found)


def test_sizes_that_memory_does_not_hold_are_left_out_of_scale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(growth, "Crews", NoJobs)
    monkeypatch.setattr(growth, "free_memory", lambda: 2 << 30)
    command = ["bench", "scale", "--model", "lenet", "--parameters", "1e6", "--parameters", "1e9", "--rounds", "1"]
    done = CliRunner().invoke(cli, [*command, "--out", str(tmp_path / "s.json")])
    assert done.exit_code == 0, done.output
    assert "1e9: left out, it needs 38,746 MB and 1,409 MB are free" in done.output
    assert json.loads((tmp_path / "s.json").read_text())["left_out"].keys() == {"1e9"}


def test_more_ranks_than_cores_are_warned_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hvd_adam.bench.step.Crews", NoJobs)
    command = ["bench", "step", "--model", "lenet", "--peers", "bare", "-n", "4000", "--rounds", "1"]
    monkeypatch.setattr("hvd_adam.bench.step.free_memory", lambda: 1 << 60)
    done = CliRunner().invoke(cli, [*command, "--out", str(tmp_path / "s.json")])
    assert "4000 ranks share" in done.output


def test_what_was_measured_before_an_interrupt_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Interrupted(NoJobs):
        def rounds(self, count: int, *rest: object):
            yield from super().rounds(2)
            raise KeyboardInterrupt

    monkeypatch.setattr("hvd_adam.bench.step.Crews", Interrupted)
    out = tmp_path / "step.json"
    command = ["bench", "step", "--model", "lenet", "--peers", "bare", "--out", str(out)]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code != 0
    assert f"interrupted: what was measured is in {out}" in done.output
    assert [len(row["seconds"]) for row in json.loads(out.read_text())["comparisons"][0]["rows"]] == [2, 2, 2]


def test_an_optimizer_starts_anew_each_round_as_installed_and_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[tuple[str, ...]] = []

    class Starts(NoJobs):
        def __init__(self, jobs, seed=0, needed=None) -> None:
            super().__init__(jobs)
            started.append(tuple((job.name, job.ranks, job.plain) for job in jobs))

    monkeypatch.setattr(optimizer, "Crews", Starts)
    command = ["bench", "optimizer", "--parameters", "100", "--peers", "torch fused", "-n", "3", "--rounds", "4"]
    done = CliRunner().invoke(cli, [*command, "--out", str(tmp_path / "o.json")])
    assert done.exit_code == 0, done.output
    rows = {("torch fused", LAUNCHER), ("torch fused", INSTALLED)}
    kept = json.loads((tmp_path / "o.json").read_text())
    assert kept["kind"] == "bench optimizer"
    found = {(row["peer"], row["surroundings"]): row for row in kept["timings"][0]["rows"]}
    assert found.keys() == rows and all(row["seconds"] == row["ours"] == [1.0] * 4 for row in found.values())
    expected = {((f"{peer} ({where})", 3, where == INSTALLED),) for peer, where in rows}
    assert all(set(started[i : i + 2]) == expected for i in range(0, 8, 2)) and len(started) == 8


def test_parameters_that_memory_does_not_hold_are_left_out_and_the_others_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer, "Crews", NoJobs)
    monkeypatch.setattr(surroundings, "free_memory", lambda: 1 << 30)
    command = ["bench", "optimizer", "--parameters", "1e8", "--parameters", "100", "--rounds", "1"]
    done = CliRunner().invoke(cli, [*command, "--out", str(tmp_path / "o.json")])
    assert done.exit_code == 0, done.output
    assert "1e8: left out, it needs 6,703 MB and 1,024 MB are free" in done.output
    assert [one["parameters"] for one in json.loads((tmp_path / "o.json").read_text())["timings"]] == ["100"]


def test_models_that_memory_does_not_hold_are_left_out_and_no_older_figures_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvd_adam.bench.memory.free_memory", lambda: 1 << 20)
    out, plot = tmp_path / "m.json", tmp_path / "m.png"
    out.write_text('{"held": ["those of another day"]}')
    command = ["bench", "memory", "--model", "1e8", "--out", str(out), "--json", "--plot", str(plot)]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    kept = json.loads(done.stdout)
    assert kept["held"] == [] and kept["left_out"]["1e8"].startswith("it needs ")
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_program_gets_the_json_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "Crews", NoJobs)
    out, plot = tmp_path / "o.json", tmp_path / "o.png"
    command = ["bench", "optimizer", "--parameters", "100", "--rounds", "1", "--json", "--plot", str(plot)]
    done = CliRunner().invoke(cli, [*command, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(out.read_text())
    assert plot.read_bytes().startswith(b"\x89PNG")

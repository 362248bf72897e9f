"""Benchmarks: the arithmetic of ratios against closed forms, and what a wrong name ends with. Jobs: tests/jobs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hvd_adam.bench import surroundings
from hvd_adam.bench.allreduce import read_size, sizes
from hvd_adam.bench.optimizer import measure, shapes
from hvd_adam.bench.peers import PEERS
from hvd_adam.bench.ratios import latency_and_bandwidth, median, ratio
from hvd_adam.bench.step import Comparison, Row, table
from hvd_adam.bench.workloads import WORKLOADS, loss_of
from hvd_adam.cli import cli
from hvd_adam.errors import ConfigError


def test_a_slowdown_that_a_whole_round_shares_leaves_the_ratio_alone() -> None:
    noise = np.random.default_rng(1).lognormal(0, 1.0, 9)
    found = ratio((3e-3 * noise).tolist(), (2e-3 * noise).tolist())
    assert found.value == pytest.approx(1.5)
    assert (found.low, found.high) == (pytest.approx(1.5), pytest.approx(1.5))


def test_the_intervals_of_medians_hold_the_truth_as_often_as_they_say() -> None:
    """Log-normal times, 9 rounds, 400 benchmarks; a percentile bootstrap of so few is a little narrow or wide."""
    generator, held = np.random.default_rng(2), 0
    for _ in range(400):
        found = median(generator.lognormal(np.log(2.0), 0.2, 9).tolist())
        held += found.low <= 2.0 <= found.high
    assert 0.90 <= held / 400 <= 0.99


@pytest.mark.parametrize(("rounds", "said"), [(1, "2 (single run)"), (4, "2 (n = 4)"), (5, "2.000 (2.000 to 2.000)")])
def test_few_rounds_get_no_interval(rounds: int, said: str) -> None:
    assert str(median([2.0] * rounds)) == said


def test_latency_and_bandwidth_of_exact_times_come_back() -> None:
    bytes_sent = [2.0**k for k in range(10, 30, 2)]
    line = latency_and_bandwidth(bytes_sent, [20e-6 + b / 5e9 for b in bytes_sent])
    assert line.latency == pytest.approx(20e-6)
    assert line.bandwidth == pytest.approx(5e9)


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
    assert sum(int(np.prod(shape)) for shape in shapes(name)) == total


def test_the_transformer_has_about_ten_million_weights_and_every_model_takes_its_batch() -> None:
    assert sum(int(np.prod(shape)) for shape in shapes("transformer")) == pytest.approx(10e6, rel=0.05)
    for load in WORKLOADS.values():
        assert loss_of(load.build(), load.batch(2)).item() > 0


def test_the_optimizers_take_turns() -> None:
    found = measure("1000", rounds=2, threads=1)
    assert {len(values) for values in found.seconds.values()} == {2}
    assert min(min(values) for values in found.seconds.values()) > 0


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
        (["optimizer", "--parameters", "many"], "parameters: many.\n"),
    ],
)
def test_a_wrong_name_is_said_before_anything_starts(arguments: list[str], expected: str) -> None:
    done = CliRunner().invoke(cli, ["bench", *arguments])
    assert isinstance(done.exception, ConfigError)
    assert expected in str(done.exception)
    assert done.exception.exit_code == 2


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "new" / "optimizer.json"
    done = CliRunner().invoke(cli, ["bench", "optimizer", "--parameters", "100", "--rounds", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    kept = json.loads(out.read_text())
    assert kept["kind"] == "bench optimizer"
    assert kept["timings"][0]["seconds"].keys() >= {"GenericAdam", "torch fused"}


def test_every_peer_says_what_it_is() -> None:
    assert all(peer.what for peer in PEERS.values())


def test_parameters_that_memory_does_not_hold_are_left_out_and_the_others_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "free_memory", lambda: 10**6)
    command = ["bench", "optimizer", "--parameters", "1e6", "--parameters", "100", "--rounds", "1"]
    done = CliRunner().invoke(cli, [*command, "--out", str(tmp_path / "o.json")])
    assert done.exit_code == 0, done.output
    assert "1e6: left out, it needs 91 MB and 0 MB are free" in done.output
    assert [one["parameters"] for one in json.loads((tmp_path / "o.json").read_text())["timings"]] == ["100"]

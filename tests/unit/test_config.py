"""Configs: what is accepted, and for each mistake the words and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hvd_adam import config_file
from hvd_adam.config import RunConfig, from_plain, load, to_plain
from hvd_adam.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "found", "hint"),
    [
        ("locla_batch: 3", "locla_batch: 3", "Did you mean local_batch?"),
        ("evaluate: {evry: 3}", "evaluate.evry: 3", "Did you mean every?"),
        ("geometric: 1.5", "geometric: 1.5", "evaluate.geometric"),  # right key, wrong place
        ("zzz: 1", "zzz: 1", "the keys are"),
        ("workers: 0", "workers: 0", "It must be >= 1"),
        ("workers: -2", "workers: -2", "It must be >= 1"),
        ("local_batch: 0", "local_batch: 0", "It must be >= 1"),
        ("local_batch: -32", "local_batch: -32", "It must be >= 1"),
        ("workers: 2.5", "workers: 2.5", "a whole number"),
        ("workers: '2'", "workers: '2'", "a whole number"),
        ("workers: true", "workers: true", "a whole number"),
        ("local_batch: [1]", "local_batch: [1]", "a whole number"),
        ("clip_norm: much", "clip_norm: 'much'", "a number"),
        ("clip_norm: 0", "clip_norm: 0", "It must be > 0"),
        ("seed: -1", "seed: -1", "It must be >= 0"),
        ("task: 3", "task: 3", "a mapping"),
        ("algorithm: adamm", "algorithm: adamm", "Did you mean adam?"),
        ("algorithm: {name: path, lr: 0.1/t}", "algorithm.lr: '0.1/t'", "a number"),
        ("algorithm: {name: path, q: 1}", "algorithm path: q", "It takes r, lr"),
        ("algorithm: {name: adam, lr: -1}", "lr: -1", "finite and >= 0"),
        ("optimizer: {lr: .inf}", "lr: inf", "finite and >= 0"),
        ("optimizer: {lr: .nan}", "lr: nan", "finite and >= 0"),
        ("optimizer: {betas: [0.9, 1.0]}", "beta2: 1", "(0, 1)"),
        ("optimizer: {betas: [0.9, 0]}", "beta2: 0", "(0, 1)"),  # a constant; a schedule may start at 0
        ("optimizer: {betas: [1.0, 0.9]}", "beta1: 1", "[0, 1)"),
        ("optimizer: {betas: [-0.1, 0.9]}", "beta1: -0.1", "[0, 1)"),
        ("optimizer: {betas: [0.9]}", "optimizer.betas: [0.9]", "2 entries"),
        ("optimizer: {v0: -1}", "v0: -1", ">= 0"),
        ("optimizer: {lr: 1 +}", "optimizer.lr", "character 4"),
        ("optimizer: {lr: __import__('os')}", "optimizer.lr", "'__import__'"),
        ("optimizer: {lr: open(t)}", "optimizer.lr", "'open'"),
        ("optimizer: {lr: t.real}", "optimizer.lr", "'.'"),
        ("optimizer: {lr: 0.1 - 0.01*t}", "at t = 11", "max("),  # leaves the domain within 300 steps
        ("optimizer: {betas: [0.9, 1 - 2/t]}", "at t = 1", "[0, 1)"),
        ("optimizer: {betas: [t/10, 0.9]}", "at t = 10", "[0, 1)"),
        ("{steps: 3, epochs: 3}", "steps and epochs", "Take epochs out"),
        ("{algorithm: adam, optimizer: {lr: 1}}", "algorithm and optimizer", "Take optimizer out"),
        ("evaluate: {every: 3, at: [3]}", "every and at", "Keep every"),
        ("evaluate: {at: [3, -1]}", "evaluate.at[1]: -1", ">= 0"),
        ("precision: float16", "precision: float16", "float64"),
        ("engine: mpii", "engine: mpii", "Did you mean mpi?"),
        ("{wire: fp16, determinism: exact}", "wire: fp16", "Leave one out"),
        ("name: a/b", "name: a/b", "folder"),
        ("- digits", "holds a list", "key: value"),
        ("a: b: c", "line 1, column 5", "not YAML"),
        ("seed: 1\nseed: 2", "line 2", "stands twice"),
    ],
)
def test_each_mistake_is_named_with_its_cure_and_exit_code_2(tmp_path: Path, text: str, found: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    assert found in str(caught.value)
    assert hint in str(caught.value)
    assert caught.value.exit_code == 2
    assert all((caught.value.found, caught.value.why, caught.value.cure))


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("nokey", "'nokey'"),
        ("=3", "'=3'"),
        ("steps=[1", "'steps=[1'"),
        ("seed.x=3", "no keys inside seed, which is 1"),
        ("workres=3", "Did you mean workers?"),
    ],
)
def test_a_mistaken_override_is_named(tmp_path: Path, override: str, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, "seed: 1"), [override])
    assert found in str(caught.value)


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 1")
    with pytest.raises(ConfigError) as caught:
        load(path.with_name("smoe.yaml"))
    assert f"Did you mean {path}?" in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (["workers=8"], "workers", 8),
        (["task.model=mlp"], "task", {"name": "digits", "model": "mlp"}),
        (["algorithm.lr=1e-3"], "algorithm", {"name": "adam", "lr": 0.001}),  # YAML 1.1 has a string there
        (["condition=off"], "condition", "off"),  # YAML 1.1 has false there
        (["steps=7"], "steps", 7),  # takes the file's epochs out
        (["clip_norm="], "clip_norm", None),
    ],
)
def test_overrides_are_typed_as_yaml(tmp_path: Path, overrides: list[str], key: str, value: Any) -> None:
    config = load(written(tmp_path, "epochs: 3\nclip_norm: 2.0"), overrides)
    assert to_plain(config)[key] == value


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_resolved_config_says_itself(path: Path, tmp_path: Path) -> None:
    config = load(path)
    again = tmp_path / "resolved.yaml"
    again.write_text(config.to_yaml())
    assert load(again) == config


@pytest.mark.parametrize(
    ("section", "last", "expected"),
    [
        ({}, 10, [10]),
        ({"every": 4}, 10, [4, 8, 10]),
        ({"at": [0, 3, 99]}, 10, [0, 3, 10]),
        ({"geometric": 2}, 20, [1, 2, 4, 8, 16, 20]),
        ({"geometric": 1.25}, 10, [1, 2, 3, 4, 5, 7, 9, 10]),
        ({"every": 5, "start": True}, 5, [0, 5]),
    ],
)
def test_evaluation_steps(section: dict[str, Any], last: int, expected: list[int]) -> None:
    assert from_plain({"evaluate": section}).evaluate.steps(last) == expected


def test_facts_of_the_launch_do_not_change_a_run_s_identity() -> None:
    plain = RunConfig()
    assert from_plain({"threads": 3, "engine": "mpi", "data": "/d", "name": "x"}).identity() == plain.identity()
    assert from_plain({"seed": 1}).identity() != plain.identity()
    assert from_plain({"workers": 4}).identity() != plain.identity()


def test_yaml_that_would_run_code_is_refused() -> None:
    with pytest.raises(ConfigError, match="not YAML"):
        config_file.override({}, "task=!!python/object/apply:os.system [true]")

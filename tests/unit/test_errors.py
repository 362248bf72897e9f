"""How a message looks, and the exit code of each class."""

from __future__ import annotations

import pytest

from hvd_adam import cli, errors


def test_a_message_is_three_sentences_of_which_the_second_and_third_stand_below() -> None:
    error = errors.ConfigError(
        "workers: 6, started on 4 ranks",
        "each rank plays workers / ranks workers, and that is not a whole number",
        "start 3 ranks, or set workers to 8",
    )
    assert str(error) == (
        "workers: 6, started on 4 ranks.\n"
        "  Each rank plays workers / ranks workers, and that is not a whole number.\n"
        "  Start 3 ranks, or set workers to 8."
    )


@pytest.mark.parametrize(
    ("cure", "shown"),
    [
        ("a longer run", "A longer run."),
        ("run: hvd-adam data get mnist", "Run: hvd-adam data get mnist."),
        ("lr: 0.001 is usual", "lr: 0.001 is usual."),  # a key is typed as it stands
        ("hvd-adam doctor says more", "hvd-adam doctor says more."),
        ("r lies in [0, 1]", "r lies in [0, 1]."),  # a symbol
        ("beta_t lies in [0, 1)", "beta_t lies in [0, 1)."),
        ("is it the right file?", "Is it the right file?"),
    ],
)
def test_words_begin_with_a_capital_and_names_stay_as_they_are_typed(cure: str, shown: str) -> None:
    assert str(errors.RunError("found", "why", cure)).splitlines()[-1] == f"  {shown}"


@pytest.mark.parametrize(
    ("kind", "code"),
    [("RunError", 1), ("DataError", 1), ("ConfigError", 2), ("ConditionError", 3), ("StoppedAtCheckpoint", 75)],
)
def test_each_class_has_its_exit_code(kind: str, code: int) -> None:
    assert getattr(errors, kind).exit_code == code


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "c.yaml"], "--resume goes on from the newest checkpoint, or from step 0 where there is none"),
        (["study", "run", "s.yaml"], "the same command goes on from it"),
        (["study", "report", "runs/s"], ""),
        ([], ""),
    ],
)
def test_an_interrupt_says_how_it_goes_on_where_it_does(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["hvd-adam", *words])
    monkeypatch.setattr(cli, "cli", interrupted)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    onward = f", and {said}" if said else ""
    assert capsys.readouterr().err == f"hvd-adam: interrupted; what was written is whole{onward}.\n"

"""A study's report, made of folders whose truth is known: what it says, what it leaves out, and how it looks."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hvd_adam.study.analysis import _noise
from hvd_adam.study.collect import Record, collect
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import plan
from hvd_adam.theory.noise import noise_scale
from tests import browser
from tests.made_study import BASE, Steps, hyperbola, make, study_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "study", study_of())


def plain(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_the_verdict_names_range_slope_and_critical_batch_of_a_hyperbola_that_is_known(made: Path, call) -> None:
    code, said, _ = call("study", "report", made, "--format", "json")
    assert code == 0 and said.startswith("Linear up to 8 workers (batch 64; 95 % interval")
    found = plain(made)["series"][0]
    assert found["hyperbola"]["critical_batch"]["low"] < 400 < found["hyperbola"]["critical_batch"]["high"]
    assert found["hyperbola"]["fewest_steps"]["low"] < 300 < found["hyperbola"]["fewest_steps"]["high"]
    assert found["slope"]["n"] == 25 and found["slope"]["low"] < -0.9 < found["slope"]["high"]  # -0.896 on this grid
    for cell in found["cells"]:  # steps x batch = samples of the ideal line x excess
        samples = found["ideal_samples"]["estimate"] * cell["excess"]["estimate"]
        assert math.isclose(cell["steps"]["estimate"] * cell["batch"], samples, rel_tol=1e-6)
    noise = found["cells"][-1]["noise_scale"]
    assert noise["low"] < 400 < noise["high"]
    assert found["elbow_predicted"]["low"] < 0.3 * 400 and found["elbow_predicted"]["high"] > 5 * 400


def test_the_report_says_where_the_regions_meet_and_how_sure_that_is(made: Path, call) -> None:
    _, said, _ = call("study", "report", made, "--format", "json")
    found = plain(made)["series"][0]
    ends = found["regions"]["perfect_scaling_up_to"], found["regions"]["maximal_parallelism_from"]
    for border, truth in zip(ends, (400 / 5, 5 * 400), strict=True):
        assert border["low"] < truth < border["high"] and border["n"] == 25
    assert "perfect scaling ends at " in said and "; not seen, n = 25) samples a step" in said  # batches end at 128
    assert [cell["region"] for cell in found["cells"][:3]] == ["perfect scaling"] * 3
    assert found["cells"][0]["region_sure"]
    call("study", "report", made)
    page = (made / "report.html").read_text()
    for words in ("perfect scaling ends", "maximal parallelism begins", "cells surely in it", "JMLR 20:112"):
        assert words in page
    drawing = re.search(r'<figure id="critical-batch">.*?</svg>', page, re.S)
    assert drawing and all(
        name in drawing[0] for name in ("perfect scaling ends", "noise scale", "elbow, predicted", "critical batch")
    )


def test_the_fit_of_the_model_is_always_stated_and_doubt_reaches_the_verdict(made: Path, tmp_path: Path, call) -> None:
    _, said, _ = call("study", "report", made)
    assert "fit is in doubt" not in said and "Fit of the model: no objection" in (made / "report.html").read_text()

    def steps(cell, seed):  # the spread grows tenfold from the first three cells to the others
        return hyperbola(cell, seed, spread=0.03 if cell.workers < 8 else 0.4)

    folder = make(tmp_path / "s", study_of(seeds=10), steps)
    _, said, _ = call("study", "report", folder, "--format", "json")
    assert "note: The model's fit is in doubt: log T is not normal or its spread differs between cells" in said
    fit = plain(folder)["series"][0]["goodness_of_fit"]
    assert fit["doubtful"] and fit["equal_spread_p"] < 0.01 and fit["n"] == 50


def test_every_sentence_with_a_figure_has_its_n_and_its_interval(made: Path, call) -> None:
    call("study", "report", made, "--format", "json")
    for sentence in plain(made)["verdict"]:
        assert re.search(r"\d", sentence["text"])
        assert re.search(r"n = \d|seeds a cell|nothing is said", sentence["text"]), sentence


def test_a_straight_line_is_linear_as_far_as_the_study_goes(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(), lambda cell, seed: hyperbola(cell, seed, 1e-3, 2e7))
    _, said, _ = call("study", "report", folder)
    assert said.startswith("Linear up to 16 workers (batch 128), as far as the study goes: slope -")


def test_workers_that_share_one_batch_are_a_negative_control(tmp_path: Path, call) -> None:
    study = study_of(grid={"workers": [1, 2, 4, 8], "global_batch": [64]})

    def steps(cell, seed):
        return 500 * math.exp(0.05 * math.sin(7 * seed + cell.workers))

    _, said, _ = call("study", "report", make(tmp_path / "s", study, steps))
    assert (
        said.startswith("Negative control, batch 64 in every cell: slope against workers") and "0 lies within" in said
    )


def test_a_target_that_no_run_reached_gives_lower_bounds(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(budget={"steps": 50}), lambda cell, seed: math.inf)
    code, said, _ = call("study", "report", folder)
    assert code == 0 and "No run reached train_loss <= 0.3 within its budget" in said
    assert "1 worker (batch 8), more than 50 steps (n = 5)" in said
    page = (folder / "report.html").read_text()
    assert "more than 50" in page and "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)


def test_runs_that_met_the_target_at_step_0_say_nothing_and_are_named(tmp_path: Path, call) -> None:
    def steps(cell, seed):
        return 0 if cell.workers == 16 else hyperbola(cell, seed)

    code, said, _ = call("study", "report", make(tmp_path / "s", study_of(), steps))
    assert code == 0 and "5 met the target at step 0" in said
    assert "No figure for workers-16: none of their runs can be used" in said


def test_one_seed_gives_single_runs_and_no_interval(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(seeds=[3]))
    code, said, _ = call("study", "report", folder)
    assert code == 0 and "a single run in each cell" in said and "Each cell is a single run" in said
    assert "single run" in (folder / "report.html").read_text()


def test_a_cell_whose_runs_all_failed_is_named_with_the_reason(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of())
    lines = [
        {"kind": "failed", "run": f"workers-4/seed-{k}", "reason": "out of memory", "attempt": 2} for k in range(5)
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for line in lines:
        (folder / line["run"] / "result.json").unlink()
    code, said, _ = call("study", "report", folder)
    assert code == 0 and "5 failed" in said and "No figure for workers-4" in said
    assert "out of memory" in (folder / "report.html").read_text()


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[: len(text) // 2], "cut short"),
        (lambda text: "", "empty"),
        (lambda text: text.replace('"schema": 1', '"schema": 7'), "schema 7, and this version reads 1"),
        (lambda text: re.sub(r'"identity": "\w+"', '"identity": "0"', text), "belongs to another run"),
        (lambda text: text.replace("0.29}", "0.31}"), "edited?"),
        (lambda text: text.replace('{"kind": "eval"', "evaluated", 1), "line 2 of the trace is no JSON"),
    ],
    ids=["cut in mid-line", "empty", "another schema", "another study", "edited", "no JSON"],
)
def test_a_trace_that_cannot_be_trusted_is_left_out_and_said_why(change, reason: str, tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(seeds=3))
    rewrite(folder / "workers-4/seed-1/trace.jsonl", change)
    code, said, _ = call("study", "report", folder, "--format", "json")
    assert code == 0 and "1 cannot be read" in said
    (bad,) = [run for run in plain(folder)["runs"] if run["outcome"] == "unreadable"]
    assert bad["run"] == "workers-4/seed-1" and reason in bad["reason"]


def test_a_run_that_stopped_and_goes_on_is_missing_until_it_ends_and_no_fault(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(seeds=3, budget={"steps": 400}), lambda cell, seed: math.inf)
    stopped = {"status": "stopped", "ended_by": "signal", "step": 100}
    rewrite(folder / "workers-4/seed-1/result.json", lambda t: json.dumps({**json.loads(t), **stopped}))
    code, said, _ = call("study", "report", folder, "--format", "json")
    assert code == 0 and "1 have no result yet" in said
    assert [r["outcome"] for r in plain(folder)["runs"]].count("missing") == 1


def test_seconds_of_runs_on_other_ranks_than_the_study_now_says_do_not_count(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(seeds=3, ranks=2))
    assert call("study", "report", folder, "--format", "json")[0] == 0
    assert any(cell["step_seconds"] for one in plain(folder)["series"] for cell in one["cells"])
    rewrite(folder / "study.yaml", lambda text: text.replace("ranks: 2", "ranks: 1"))
    code, said, _ = call("study", "report", folder, "--format", "json")
    assert code == 0 and "Begun on another number of ranks than the study now says: " in said
    cells = [cell for one in plain(folder)["series"] for cell in one["cells"]]
    assert [bool(cell["step_seconds"]) for cell in cells] == [cell["workers"] == 1 for cell in cells]
    assert {run["outcome"] for run in plain(folder)["runs"]} == {"reached"}


def test_a_trace_cut_after_the_target_was_met_still_counts(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(seeds=3))
    rewrite(folder / "workers-4/seed-1/trace.jsonl", lambda text: text[:-15])
    call("study", "report", folder, "--format", "json")
    assert {run["outcome"] for run in plain(folder)["runs"]} == {"reached"}


def test_nan_in_a_trace_is_no_number_and_never_meets_a_target(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(seeds=3, budget={"steps": 400}), lambda cell, seed: math.inf)
    rewrite(
        folder / "workers-4/seed-1/trace.jsonl", lambda t: re.sub(r'"train_loss": [\d.]+', '"train_loss": "nan"', t)
    )
    rewrite(
        folder / "workers-4/seed-1/result.json", lambda t: t.replace('"ended_by": "steps"', '"ended_by": "diverged"')
    )
    code, said, _ = call("study", "report", folder, "--format", "json")
    assert code == 0 and "1 diverged" in said
    assert [r["outcome"] for r in plain(folder)["runs"]].count("diverged") == 1


def test_several_processes_read_what_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(seeds=3)
    place = Folder(make(tmp_path / "s", study))
    rewrite(place.path / "workers-4/seed-1/trace.jsonl", lambda text: text[: len(text) // 2])
    shutil.rmtree(place.path / "workers-8/seed-2")
    alone = collect(study, plan(study), place)
    monkeypatch.setattr("hvd_adam.study.collect.MUCH", 0)
    together = collect(study, plan(study), place, processes=2)
    assert {record.outcome for record in alone} == {"reached", "unreadable", "missing"}
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.noise, other.noise)
        fields = [{k: v for k, v in vars(record).items() if k != "noise"} for record in (one, other)]
        assert fields[0] == fields[1]


def test_the_gradient_norms_of_a_trace_are_read_as_json_reads_them(tmp_path: Path) -> None:
    study = study_of(seeds=1)
    folder = make(tmp_path / "s", study)
    trace = folder / "workers-4/seed-0/trace.jsonl"
    first = re.search(r'"worker_square": [\d.]+', trace.read_text())
    assert first
    rewrite(trace, lambda text: text.replace(first[0], '"worker_square": "nan", "later": 1', 1))
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    wanted = [(float(x["worker_square"]), float(x["grad_norm"]) ** 2) for x in lines if "worker_square" in x]
    (found,) = [r.noise for r in collect(study, plan(study), Folder(folder)) if r.run.place == "workers-4/seed-0"]
    assert np.array_equal(found, np.array(wanted), equal_nan=True) and np.isnan(found).sum() == 1


def test_runs_of_another_study_in_the_folder_are_left_aside_by_name(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(seeds=3))
    make(tmp_path / "other", study_of(grid={"workers": [5, 7]}, seeds=3))
    (tmp_path / "other/workers-7").rename(folder / "workers-7")
    code, said, _ = call("study", "report", folder)
    assert code == 0 and "3 run directories here belong to no cell of this study" in said and "workers-7/seed-0" in said


def test_a_folder_of_several_studies_is_refused_and_lists_them(tmp_path: Path, call) -> None:
    for name in ("one", "two"):
        make(tmp_path / name, study_of(seeds=1, grid={"workers": [1, 2]}))
    code, _, err = call("study", "report", tmp_path)
    assert code == 2 and "It holds no study" in err and "one, two" in err


def test_a_report_that_cannot_be_written_is_an_error_of_one_message(made: Path, call) -> None:
    code, _, err = call("study", "report", made, "--to", "/proc/no/report.html")
    assert code == 1 and "It cannot be written" in err and "--to" in err


def test_the_page_fetches_nothing_holds_no_script_and_stays_small(made: Path, call) -> None:
    call("study", "report", made)
    text = (made / "report.html").read_text()
    assert len(text) < 3_000_000
    assert not re.search(r"<script|<link(?! rel=\"icon\" href=\"data:)|@import|url\(|\bsrc=|\bonload=", text)
    assert set(re.findall(r"https?://[^\s\"<)]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_every_picture_has_words_for_those_who_do_not_see_it_and_values_on_hover(made: Path, call) -> None:
    call("study", "report", made, "--figures", made / "figures")
    text = (made / "report.html").read_text()
    drawings = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(drawings) == 16  # eight pictures, for wide and for narrow pages
    assert all(re.search(r'role="img" aria-label="[^"]{40,}', one) and "<title>" in one for one in drawings)
    assert text.count("<figcaption>") == text.count("The numbers") == 8
    assert len(list((made / "figures").glob("*.svg"))) == 8


def test_markdown_and_json_hold_the_same_verdict(made: Path, call) -> None:
    for form in ("md", "json"):
        assert call("study", "report", made, "--format", form)[0] == 0
    lead = plain(made)["verdict"][0]["text"]
    assert f"**{lead}**" in (made / "report.md").read_text()


@pytest.mark.skipif(browser.find() is None, reason=browser.HOW_TO_GET)
def test_the_page_reads_on_a_phone_and_on_a_desk_in_light_and_dark(made: Path, call) -> None:
    call("study", "report", made)
    with browser.Browser(str(browser.find())) as shown:
        for width in (380, 1400):
            for dark in (False, True):
                shown.open(made / "report.html", width, dark)
                assert shown.faults() == []
                assert shown.requests() == [(made / "report.html").resolve().as_uri()]
                assert shown.value("document.documentElement.scrollWidth") <= width
                assert shown.value(OVERLAPS) == []
                background = shown.value("getComputedStyle(document.body).backgroundColor")
                assert (background == "rgb(255, 255, 255)") is not dark


def _crowded() -> tuple[StudyConfig, Steps]:
    grid = {"workers": [1, 2, 4], "local_batch": [4, 16, 64]}
    study = study_of(grid=grid, seeds=4, ranks=2, budget={"steps": 5000})
    return study, lambda cell, seed: hyperbola(cell, seed, spread=0.3)


def _two_series() -> tuple[StudyConfig, Steps]:
    algorithms = [{"name": "adam", "lr": 0.001}, {"name": "adaema", "lr": 0.01}]
    study = study_of(grid={"workers": [1, 2, 4, 8, 16], "algorithm": algorithms}, ranks=4)
    critical = dict(zip(("adam", "adaema"), (400, 60), strict=True))
    return study, lambda cell, seed: hyperbola(cell, seed, critical=critical[cell.setting["algorithm"]["name"]])


def _theory() -> tuple[StudyConfig, Steps]:
    base = {**BASE["base"], "local_batch": 16}
    study = study_of(
        mode="theory", horizons=[1000, 2000, 4000, 8000, 16000], budget=None, grid={"workers": [2, 4, 8]}, base=base
    )
    return study, lambda cell, seed: 256000 / cell.batch


def _tuned() -> tuple[StudyConfig, Steps]:
    study = study_of(lr={"tune": [0.5, 1, 2, 4], "tuning_seeds": 3})
    return study, lambda cell, seed: hyperbola(cell, seed) * (1 + 0.2 * abs(math.log(cell.factor)))


@pytest.mark.skipif(browser.find() is None, reason=browser.HOW_TO_GET)
@pytest.mark.parametrize("kind", [_crowded, _two_series, _theory, _tuned])
def test_pages_of_every_kind_draw_without_a_fault_and_nothing_lies_on_anything(kind, tmp_path: Path, call) -> None:
    study, steps = kind()
    picks = {f"workers-{w}": 1.0 for w in (1, 2, 4, 8, 16)} if study.lr.tune else None
    folder = make(tmp_path / "s", study, steps, picks=picks)
    call("study", "report", folder)
    with browser.Browser(str(browser.find())) as shown:
        for width in (380, 1400):
            shown.open(folder / "report.html", width, dark=width > 1000)
            assert shown.faults() == [] and shown.value("document.documentElement.scrollWidth") <= width
            assert shown.value(OVERLAPS) == []
        shown.open(folder / "report.html", 700, False, "print")
        assert shown.faults() == [] and shown.value("document.documentElement.scrollWidth") <= 700


# Words in a picture that lie on other words of the same picture, and blocks that stick out of the page.
OVERLAPS = """(() => {
  const found = [];
  document.querySelectorAll('details').forEach(one => { one.open = true; });
  for (const svg of document.querySelectorAll('svg.picture')) {
    if (getComputedStyle(svg).display === 'none') continue;
    const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    for (let i = 0; i < boxes.length; i++) {
      const [a, p] = boxes[i];
      if (p.left < -1 || p.right > innerWidth + 1) found.push(`${a} sticks out`);
      for (let j = 0; j < i; j++) {
        const [b, q] = boxes[j];
        const w = Math.min(p.right, q.right) - Math.max(p.left, q.left);
        const h = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
        if (w > 2 && h > 4) found.push(`${a} on ${b}`);
      }
    }
  }
  for (const box of document.querySelectorAll('h1,h2,h3,p,li,td,th,pre,summary')) {
    const place = box.getBoundingClientRect();
    if (place.width > 1 && (place.right > innerWidth + 1 || place.left < -1)) found.push(box.textContent);
  }
  return found;
})()"""


@pytest.mark.parametrize(("sampling", "size"), [("epochs", 1438), ("replacement", 0)])
def test_a_cells_noise_scale_knows_whether_its_samples_are_shared_out(sampling: str, size: int) -> None:
    study = study_of(seeds=2, base={**study_of().base, "sampling": sampling})
    cell = next(cell for cell in plan(study).cells if cell.workers == 4)
    pairs = np.random.default_rng(2).uniform(1, 2, (40, 2))
    records = [Record(run, cell, "reached", noise=pairs, facts={"train_size": 1438}) for run in cell.runs]
    late = np.concatenate([pairs[20:], pairs[20:]])
    local = cell.batch // 4
    assert _noise(records) == noise_scale(late[:, 0], late[:, 1], local_batch=local, workers=4, shared_out=size)

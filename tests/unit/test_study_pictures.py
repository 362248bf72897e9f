"""A study's pictures as files and in pages: legible anywhere, linked where they lie, and silent about nothing."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import font_manager, ft2font

from hvd_adam.study.analysis import Series, analyse
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.folder import Folder
from hvd_adam.study.pictures import pictures
from hvd_adam.study.pictures.canvas import Canvas, Scale, width_of
from hvd_adam.study.pictures.course import CELLS_SHOWN
from hvd_adam.study.pictures.picture import NARROW, WIDE, Picture
from hvd_adam.study.pictures.steps import steps_picture
from tests import browser
from tests.made_study import BASE, Steps, hyperbola, make, study_of

SVG = "{http://www.w3.org/2000/svg}"
STUDIES = Path(__file__).resolve().parents[2] / "docs" / "studies"
ALGORITHMS = [{"name": "adam", "lr": 0.001}, {"name": "adaema", "lr": 0.01}]


def drawn(folder: Path, study: StudyConfig, steps: Steps = hyperbola) -> dict[str, Picture]:
    found = analyse(Folder(make(folder / "s", study, steps, lines=3)))
    return {picture.name: picture for picture in pictures(found)}


def words(canvas: Canvas) -> list[tuple[float, float, float, str]]:
    """Left and right end, baseline and words of each text, by DejaVu Sans's own widths at 12 pixels."""
    font = ft2font.FT2Font(font_manager.findfont("DejaVu Sans"))
    font.set_size(1200, 72)  # so large that no hint moves a letter
    found = []
    for text in ElementTree.fromstring(canvas.svg(True)).iter(f"{SVG}text"):
        font.set_text(text.text or "")
        width = font.get_width_height()[0] / 6400
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        left = x - {"start": 0, "middle": width / 2, "end": width}[text.get("text-anchor", "start")]
        found.append((left, left + width, y, text.text or ""))
    return found


def overlaps(canvas: Canvas) -> list[tuple[str, str]]:
    found = words(canvas)
    return [
        (one[3], other[3])
        for i, one in enumerate(found)
        for other in found[:i]
        if min(one[1], other[1]) > max(one[0], other[0]) and abs(one[2] - other[2]) < 9
    ]


def theory(**changes: Any) -> StudyConfig:
    base = {**BASE["base"], "local_batch": 16}
    grid = {"workers": [2, 4, 8], **changes}
    return study_of(mode="theory", horizons=[1000, 2000, 4000, 8000, 16000], budget=None, grid=grid, base=base, seeds=3)


def inverse(cell: Any, seed: int) -> float:
    return 256000 / cell.batch


def test_a_file_of_its_own_paints_its_paper_before_anything_else(tmp_path: Path) -> None:
    files = [picture.file for picture in drawn(tmp_path, study_of(seeds=2)).values()]
    files += [path.read_text() for path in STUDIES.glob("*/*.svg")]
    assert len(files) > 100
    for text in files:
        root = ElementTree.fromstring(text)
        style, paper = list(root)[:2]
        assert style.tag == f"{SVG}style" and (style.text or "").count("--paper:#") == 3  # light, dark, printed
        assert paper.tag == f"{SVG}rect" and paper.get("style") == "fill:var(--paper)"
        assert root.attrib["viewBox"].split()[2:] == [paper.get("width"), paper.get("height")]


@pytest.mark.parametrize(
    ("to", "figures"),
    [
        ("report.md", "pictures"),
        ("a/report.md", "pictures"),
        ("a/report.md", "a/b/c"),
        ("report.md", "my pictures (new)/#1"),
        ("report.md", "."),
        ("-", "there/pictures"),
    ],
)
def test_the_links_of_a_text_lead_to_its_pictures(
    to: str, figures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call
) -> None:
    make(tmp_path / "s", study_of(seeds=2), lines=3)
    monkeypatch.chdir(tmp_path)
    code, said, _ = call("study", "report", "s", "--format", "md", "--to", to, "--figures", figures)
    text, folder = (said, Path()) if to == "-" else (Path(to).read_text(), Path(to).parent)
    links = re.findall(r"\]\(([^)]+\.svg)\)", text)
    assert code == 0 and len(links) >= 7
    assert all((folder / unquote(link)).is_file() and " " not in link for link in links)
    assert len(set(links)) == len(list(Path(figures).glob("*.svg")))


@pytest.mark.parametrize("measure", ["acc/val", "../loss [0;1] %", "größe", "/"])
def test_a_measure_of_any_name_has_pictures_with_a_name_that_is_one(measure: str, tmp_path: Path, call) -> None:
    base = {**BASE["base"], "task": {"name": "mine.py:task"}}
    study = study_of(seeds=2, targets=[{"measure": measure, "at_most": 0.3}], base=base)
    folder = make(tmp_path / "s", study, lines=3)
    for trace in folder.glob("*/*/trace.jsonl"):
        trace.write_text(trace.read_text().replace('"train_loss"', json.dumps(measure)))
    code, _, err = call("study", "report", folder, "--figures", tmp_path / "figures")
    assert code == 0 and not err
    files = [path.relative_to(tmp_path / "figures").as_posix() for path in (tmp_path / "figures").rglob("*")]
    assert len(files) >= 7 and all(re.fullmatch(r"[A-Za-z0-9-]+\.svg", file) for file in files)


def test_pictures_that_cannot_be_written_name_the_option_that_places_them(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(seeds=2), lines=3)
    code, _, err = call("study", "report", folder, "--figures", "/proc/no/figures")
    assert code == 1 and "folder /proc/no/figures" in err and "--figures" in err and "--to" not in err


def test_where_not_all_cells_are_drawn_the_note_says_so_and_the_table_has_all(tmp_path: Path) -> None:
    found = drawn(tmp_path, study_of(grid={"workers": list(range(1, 31))}, seeds=2))
    for name in ("survival", "train-loss-steps", "train-loss-samples"):
        picture = found[name]
        assert f"{CELLS_SHOWN} of 30 cells are drawn" in picture.note and len(picture.table[1]) == 30
        names = {name for *_, several in words(picture.draw(WIDE)) for name in several.split(", ")}
        assert {"1", "30"} <= names and overlaps(picture.draw(WIDE)) == []
    assert not any(", " in text for *_, text in words(found["survival"].draw(WIDE)))  # each curve has a free height
    small = drawn(tmp_path / "small", study_of(grid={"workers": list(range(1, 13))}, seeds=2))
    assert "are drawn" not in "".join(picture.note for picture in small.values())


@pytest.mark.parametrize("form", ["html", "md"])
@pytest.mark.parametrize(
    ("study", "steps"), [(theory(algorithm=ALGORITHMS), inverse), (study_of(grid={"workers": [1, 2, 4],
     "algorithm": ALGORITHMS}, seeds=3), hyperbola)],
)  # fmt: skip
def test_with_two_series_every_picture_stands_under_the_name_of_its_own(
    form: str, study: StudyConfig, steps: Steps, tmp_path: Path, call
) -> None:
    folder = make(tmp_path / "s", study, steps, lines=3)
    call("study", "report", folder, "--format", form)
    text = (folder / f"report.{form}").read_text()
    titles = re.findall(r"<h[123]>([^<]+)</h" if form == "html" else r"^#+ (.+)$", text, re.M)
    first, second = (f"algorithm {one}" for one in ("adam", "adaema"))
    if titles.index(first) > titles.index(second):
        first, second = second, first
    assert f"Steps to the target, {first}" in titles[: titles.index(first)]
    assert titles.count("Steps to the target") == 1
    assert titles.index("Steps to the target") > titles.index(second)


def test_theory_mode_exports_the_t_of_every_batch(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", theory(), inverse, lines=3)
    assert call("study", "export", folder)[0] == 0
    with (folder / "export/cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["cell"] for row in rows] == ["workers-2", "workers-4", "workers-8"]
    for row in rows:
        assert float(row["steps.estimate"]) == pytest.approx(256000 / int(row["batch"]), rel=0.02)


@pytest.mark.parametrize("low", [0.011, 0.9, 1.05, 8.2, 110.0, 155.0, 2_100.0, 1e6])
@pytest.mark.parametrize("ratio", [1.09, 1.2, 1.5, 2, 4, 30, 1e4, 1e9])
def test_a_logarithmic_axis_has_two_labels_at_least_and_no_two_alike(low: float, ratio: float) -> None:
    scale = Scale(low, low * ratio, 0, 500, log=True)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 7 and all(scale.holds(tick) for tick in ticks)
    canvas = Canvas(*WIDE)
    canvas.y_axis(canvas.y(scale.low, scale.high, True), "")
    said = [text for *_, text in words(canvas) if text]
    assert len(said) == len(set(said)) >= 2


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scale", [1, 3e4])
def test_labels_lie_within_the_picture_and_not_on_one_another(
    size: tuple[int, int], scale: float, tmp_path: Path
) -> None:
    study = study_of(grid={"workers": [1, 2, 4, 8, 10, 11, 12, 13, 16]}, seeds=3, budget={"steps": 10**9})
    found = drawn(tmp_path, study, lambda cell, seed: scale * hyperbola(cell, seed))
    for name in ("steps", "efficiency", "time", "train-loss-steps", "train-loss-samples", "survival"):
        canvas = found[name].draw(size)
        assert overlaps(canvas) == [], name
        assert min(left for left, *_ in words(canvas)) >= 0, name


def test_no_letter_of_a_label_is_wider_than_it_is_taken_for() -> None:
    canvas = Canvas(*WIDE)
    for text in ("0", "88", "1,000,000", "0.0025", "10.5 min", "1.5 s"):
        canvas.text(0, 0, text)
    assert all(right - left <= width_of(text) for left, right, _, text in words(canvas))


def test_labels_of_rates_that_lie_close_are_left_out(tmp_path: Path) -> None:
    study = study_of(lr={"tune": [0.9, 1, 1.1, 16], "tuning_seeds": 2}, seeds=2)
    picks = {f"workers-{w}": 1.0 for w in (1, 2, 4, 8, 16)}
    made = analyse(Folder(make(tmp_path / "s", study, lines=3, picks=picks)))
    canvas = next(picture for picture in pictures(made) if picture.name == "learning-rates").draw(WIDE)
    assert overlaps(canvas) == [] and {"0.9", "16"} <= {text for *_, text in words(canvas)}


def test_a_curve_that_stays_above_its_label_is_named_at_its_own_end(tmp_path: Path) -> None:
    study = study_of(grid={"workers": [1, 4, 16]}, seeds=4, budget={"samples": 160000})  # 1,250 steps of 16 workers

    def steps(cell: Any, seed: int) -> float:
        return hyperbola(cell, seed) if cell.workers < 16 else math.inf

    picture = drawn(tmp_path, study, steps)["survival"]
    root = ElementTree.fromstring(picture.file)
    curves = {line[0].text.split(" worker")[0]: line.attrib["points"].split() for line in root.iter(f"{SVG}polyline")
              if line.get("class") == "line"}  # fmt: skip
    across, height = map(float, curves["16"][-1].split(","))
    assert across < 400  # of 560
    named = [(left, right, y) for left, right, y, text in words(picture.draw(WIDE)) if text == "16"]
    assert any(abs(right - across) < 30 and 0 < y - height < 30 for _, right, y in named)


def _widened(series: Series, factor: float) -> Series:
    cells = []
    for cell in series.cells:
        assert cell.reach is not None
        steps = cell.reach.steps
        wide = replace(steps, low=steps.estimate / factor, high=steps.estimate * factor)
        cells.append(replace(cell, reach=replace(cell.reach, steps=wide)))
    return replace(series, cells=tuple(cells))


@pytest.mark.parametrize(("factor", "arrows"), [(1.05, 0), (2.5, 0), (1e6, 10), (math.inf, 10)])
def test_an_interval_is_drawn_to_its_ends_or_ends_in_an_arrow(factor: float, arrows: int, tmp_path: Path) -> None:
    series = analyse(Folder(make(tmp_path / "s", study_of(seeds=3), lines=3))).series[0]
    root = ElementTree.fromstring(steps_picture(_widened(series, factor), "").file)
    whiskers = [one for one in root.iter(f"{SVG}line") if one.get("class") == "whisker"]
    drawn_arrows = [one for one in root.iter(f"{SVG}polyline") if one.get("class") == "line thin"]
    assert len(whiskers) == 5 and len(drawn_arrows) == arrows
    lengths = [float(one.attrib["y1"]) - float(one.attrib["y2"]) for one in whiskers]
    assert np.ptp(lengths) < 0.2  # none is cut where the others are not
    assert all(26 <= float(one.attrib[end]) <= 296 for one in whiskers for end in ("y1", "y2"))


@pytest.mark.skipif(browser.find() is None, reason=browser.HOW_TO_GET)
def test_a_page_with_long_names_is_no_wider_than_a_phone(tmp_path: Path, call) -> None:
    name = "a_study_of_" + "_".join(["many_words"] * 8)
    base = {**BASE["base"], "task": {"name": "mine.py:task"}}
    study = study_of(name=name, seeds=2, targets=[{"measure": "x" * 90, "at_most": 0.3}], base=base)
    folder = make(tmp_path / "s", study, lines=3)
    call("study", "report", folder)
    with browser.Browser(str(browser.find())) as shown:
        shown.open(folder / "report.html", 380, False)
        assert shown.value("document.documentElement.scrollWidth") <= 380

"""Links resolve, configs load, and what the documents show of a config or of Python is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from documents import DOCUMENTS, TREE, anchors, code_lines, links

from hvd_adam import config
from hvd_adam.study import config as study_config
from hvd_adam.training.preparation import check_task

CONFIGS = sorted((TREE / "configs").rglob("*.yaml"))


def name(path: Path) -> str:
    return str(path.relative_to(TREE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_inside_the_tree_resolve(document: Path) -> None:
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_readme_names_every_page() -> None:
    named = {TREE / link.partition("#")[0] for link in links(TREE / "README.md")}
    assert set((TREE / "docs").glob("*.md")) <= named


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_config_loads_and_its_task_is_there(path: Path) -> None:
    if path.parent.name == "studies":
        assert study_config.load(path).name
    else:
        check_task(config.load(path))


def test_every_config_that_a_document_names_is_there() -> None:
    for document in DOCUMENTS:
        for named in re.findall(r"configs/[\w./-]+\.yaml", document.read_text(encoding="utf-8")):
            assert (TREE / named).is_file(), (name(document), named)


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (d, line)
        for d in DOCUMENTS
        for line in code_lines(d)
        if line.startswith(("task:", "algorithm:", "optimizer:")) and d.stem != "tutorial"  # test_tutorial.py
    ],
    ids=lambda value: value if isinstance(value, str) else value.stem,
)
def test_a_line_of_a_config_is_one_that_loads(document: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TREE)  # examples.my_task is looked for there
    check_task(config.from_plain(yaml.safe_load(line)))


def test_the_readmes_loop_is_the_one_of_the_example() -> None:
    """The example is run by tests/jobs/test_own_loop.py."""
    example = (TREE / "examples" / "own_loop.py").read_text(encoding="utf-8")
    shown = [line for line in code_lines(TREE / "README.md")]
    start = next(i for i, line in enumerate(shown) if line.startswith("world = hvd_adam.init()"))
    stop = next(i for i, line in enumerate(shown) if "optimizer.zero_grad()" in line and i > start)
    missing = [line for line in map(_bare, shown[start : stop + 1]) if line not in map(_bare, example.splitlines())]
    assert missing == ["loss = loss_function(model(inputs[chosen]), targets[chosen])"]  # the user's own


def _bare(line: str) -> str:
    return line.split("  #")[0].strip()

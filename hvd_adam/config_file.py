"""Config files as text: YAML in, overrides from the command line, YAML out.

Numbers and booleans are read as YAML 1.2 has them: 1e-3 is a number and `off` is a word, where PyYAML's
YAML 1.1 has it the other way round. A key that stands twice is refused rather than half forgotten.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import yaml

from hvd_adam.errors import ConfigError, DataError

LARGEST = 2**20  # bytes; a config is a page of text
ALTERNATIVES = (
    ("steps", "epochs"),
    ("algorithm", "optimizer"),
    ("evaluate.every", "evaluate.at", "evaluate.geometric"),
)
NAMED = {"task": "digits", "algorithm": "adam"}  # a plain word there is the name of a mapping; the defaults

_TAG = "tag:yaml.org,2002:"
_PLAIN = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?\d+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and key.value != "<<":
                raise yaml.MarkedYAMLError(problem=f"the key {key.value} stands twice", problem_mark=key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


for _kind, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor(_TAG + "int", lambda loader, node: int(node.value))


def read(path: str | Path) -> dict[str, Any]:
    """The mapping in a config file.

    Raises:
        ConfigError: no such file, not YAML, or not a mapping.
        DataError: it cannot be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ConfigError(f"config {path}", "it is a folder", "name the YAML file in it")
        if not path.is_file():
            raise ConfigError(f"config {path}", "there is no such file", _nearest_file(path))
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"config {path}", f"it cannot be read: {error}", "give a YAML file in UTF-8") from error
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"
        raise DataError(f"config {path}", why, "let this user read it, or name another file") from error
    if len(raw) > LARGEST:
        raise ConfigError(f"config {path}, {len(raw)} bytes", "a config is a page of text", "is it the right file?")
    document = _parse(text, f"config {path}")
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"config {path} holds {_kind_of(document)}",
            "a config is a list of lines `key: value`",
            "write for instance task: digits",
        )
    return document


def override(document: dict[str, Any], assignment: str) -> None:
    """Sets one `key=value`, its key dotted and its value YAML, in place.

    Raises:
        ConfigError: no equals sign, a value that is not YAML, or a key inside something that has none.
    """
    assign(document, *parsed(assignment), f"override {assignment!r}")


def parsed(assignment: str) -> tuple[list[str], Any]:
    """The path of keys and the value of one `key=value`.

    Raises:
        ConfigError: no equals sign, or a value that is not YAML.
    """
    key, sign, text = assignment.partition("=")
    keys = key.strip().split(".")
    if not sign or not all(keys):
        raise ConfigError(
            f"override {assignment!r}",
            "it is not of the form key=value",
            "write for instance workers=4 or task.model=mlp",
        )
    return keys, _parse(text, f"override {assignment!r}")


def assign(document: dict[str, Any], keys: list[str], value: Any, what: str) -> None:
    """Sets the value behind a path of keys, in place; `what` names the assignment in an error.

    Setting one of several alternatives (steps or epochs, ...) takes the others out.

    Raises:
        ConfigError: a key inside something that has none.
    """
    dotted = ".".join(keys)
    for group in ALTERNATIVES:
        for other in group if dotted in group else ():
            _remove(document, other.split("."))
    place = document
    for depth, name in enumerate(keys[:-1]):
        inner = place.get(name)
        if isinstance(inner, str) and depth == 0 and name in NAMED:
            inner = {"name": inner}
        elif inner is None:
            inner = {"name": NAMED[name]} if depth == 0 and name in NAMED else {}
        if not isinstance(inner, dict):
            why = f"there are no keys inside {name}, which is {inner!r}"
            raise ConfigError(what, why, f"set {name} as a whole")
        place[name] = dict(inner)
        place = place[name]
    place[keys[-1]] = value


def write(document: dict[str, Any]) -> str:
    """YAML text that `read` reads back to an equal mapping."""
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100)


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{source}{place}", f"this is not YAML: {problem}", "correct that line") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(source, f"this is not YAML that can be used: {error}", "correct it") from error


def _remove(document: dict[str, Any], keys: list[str]) -> None:
    for name in keys[:-1]:
        document = document.get(name) or {}
    if isinstance(document, dict):
        document.pop(keys[-1], None)


def _kind_of(value: Any) -> str:
    return {list: "a list", str: "a text", bool: "true or false"}.get(type(value), f"a {type(value).__name__}")


def _nearest_file(path: Path) -> str:
    folders = [path.parent, Path("configs")]
    there = sorted({str(f) for folder in folders for f in folder.glob("*.y*ml") if f.is_file()})
    near = difflib.get_close_matches(str(path), there, n=1) or [f for f in there if Path(f).stem == path.stem]
    if near:
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(there[:8])}" if there else "give the path of a YAML file"

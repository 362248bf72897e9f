"""What pydantic found wrong with a config, said in three parts: found, why, cure."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from hvd_adam.errors import ConfigError

_WHY = {
    "int_type": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "float_type": "it must be a number",
    "finite_number": "it must be a finite number",
    "string_type": "it must be a word",
    "bool_type": "it must be true or false",
    "list_type": "it must be a list",
    "model_type": "it must be a mapping, `key: value`",
    "model_attributes_type": "it must be a mapping, `key: value`",
    "dict_type": "it must be a mapping, `key: value`",
    "missing": "it has no default",
    "string_pattern_mismatch": "it becomes a folder's name: letters, digits and . + - _",
}
_EXAMPLES = {
    "name": "digits",
    "task": "digits",
    "task.name": "digits",
    "algorithm": "adam",
    "algorithm.name": "adam",
    "optimizer": "{lr: 0.001}",
    "optimizer.betas": "[0.9, 0.999]",
    "steps": "300",
    "epochs": "3",
    "clip_norm": "1.0",
    "threads": "1",
    "data": "/path/to/data",
    "stage": "/tmp/data",
    "skip_nonfinite": "{stop_after: 10}",
    "evaluate": "{every: 100}",
    "evaluate.every": "100",
    "evaluate.at": "[1, 10, 100]",
    "evaluate.geometric": "1.25",
    "checkpoint": "{every: 100}",
    "checkpoint.every": "100",
    "base": "run.yaml",
    "grid": "{workers: [1, 2, 4, 8]}",
    "targets": "[{measure: train_loss, at_most: 0.5}]",
    "budget": "{steps: 2000}",
    "expect.reach": "0.9",
}


def first_error(error: ValidationError, model: type[BaseModel]) -> ConfigError:
    """The one that a user should cure first: an unknown key, since it explains others, else the first."""
    errors = error.errors()
    unknown = [one for one in errors if one["type"] == "extra_forbidden"]
    chosen = (unknown or errors)[0]
    path = _path(chosen["loc"])
    if unknown:
        return _unknown_key(path, chosen["input"], model)
    cause = chosen.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return ConfigError(_placed(cause.found, path), cause.why, cause.cure)
    if chosen["type"] == "missing":  # its input is all that stands around it
        return ConfigError(f"no {path}", _why(chosen), _cure(path, chosen, model))
    value = chosen["input"]
    shown = repr(value) if isinstance(value, str) and chosen["type"].endswith("_type") else _shown(value)
    return ConfigError(f"{path}: {shown}", _why(chosen), _cure(path, chosen, model))


def _unknown_key(path: str, value: Any, model: type[BaseModel]) -> ConfigError:
    section, _, key = path.rpartition(".")
    known = list(_section(model, section).model_fields)
    elsewhere = [name for name, inner in _sections(model).items() if key in inner.model_fields and name != section]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.8 if elsewhere else 0.5)
    where = f"{section} takes {', '.join(known)}" if section else "no key has this name"
    if near:
        cure = f"did you mean {near[0]}?"
    elif elsewhere:
        cure = f"write it inside {elsewhere[0]}: {elsewhere[0]}.{key}"
    else:
        cure = f"take it out; the keys are {', '.join(known)}"
    return ConfigError(f"{path}: {_shown(value)}", where, cure)


def _why(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _WHY:
        return _WHY[kind]
    if kind == "literal_error":
        return "there is no such choice"
    bounds = {
        "greater_than_equal": "it must be >= {ge:g}",
        "greater_than": "it must be > {gt:g}",
        "less_than": "it must be < {lt:g}",
        "less_than_equal": "it must be <= {le:.10g}",
        "too_short": "it must have {min_length} entries",
        "too_long": "it must have {max_length} entries",
    }
    if kind in bounds:
        return bounds[kind].format(**context)
    message = str(error["msg"])
    return message[0].lower() + message[1:]


def _cure(path: str, error: Any, model: type[BaseModel]) -> str:
    if error["type"] == "literal_error":
        choices = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        near = difflib.get_close_matches(str(error["input"]), choices.split(", "), n=1)
        return f"did you mean {near[0]}? There are {choices}" if near else f"choose one of {choices}"
    section, _, key = path.rpartition(".")
    field = _section(model, section).model_fields.get(key)
    example = _EXAMPLES.get(path)
    if example is None and field is not None and not field.is_required() and field.default is not None:
        example = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    return f"write for instance {path}: {example}" if example else f"correct {path}"


def _path(location: tuple[Any, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".") or "config"


def _section(model: type[BaseModel], name: str) -> type[BaseModel]:
    return _sections(model).get(name, model)


def _sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    found = {name: _model_in(field.annotation) for name, field in model.model_fields.items()}
    return {name: inner for name, inner in found.items() if inner is not None}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _placed(found: str, path: str) -> str:
    return found if path == "config" or found.startswith(path) else f"{path}: {found}"


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) or value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."

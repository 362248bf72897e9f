"""Comparing versions, as far as the doctor needs it: numbers between dots, no pre-releases."""

from __future__ import annotations

import re


def release(version: str) -> tuple[int, ...]:
    """(2, 15, 0) of "2.15.0+cu132"; empty where the text does not start with a number."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def satisfies(version: str, bounds: str) -> bool:
    """Whether a version lies within bounds such as ">=8.1,<9"; a bound that is not understood counts as met."""
    have = release(version)
    for bound in filter(None, (part.strip() for part in bounds.split(","))):
        found = re.fullmatch(r"(>=|<=|==|!=|<|>|~=)\s*(\d[\d.]*?)(\.\*)?(\+\S+)?", bound)
        if found and not _meets(have, found[1], release(found[2]), bool(found[3])):
            return False
    return True


def _meets(have: tuple[int, ...], sign: str, wanted: tuple[int, ...], prefix: bool) -> bool:
    if sign == "~=":
        return have >= wanted and have[: len(wanted) - 1] == wanted[:-1]
    if prefix:
        return (have[: len(wanted)] == wanted) is (sign == "==")
    length = max(len(have), len(wanted))
    left, right = (numbers + (0,) * (length - len(numbers)) for numbers in (have, wanted))
    return {
        ">=": left >= right,
        "<=": left <= right,
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        ">": left > right,
    }[sign]

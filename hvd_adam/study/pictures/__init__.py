"""The pictures of a study, as vectors: what is drawn is also said (alt) and listed (table)."""

from __future__ import annotations

from hvd_adam.study.analysis import Analysis, Series
from hvd_adam.study.pictures.clock import phases_picture
from hvd_adam.study.pictures.course import course_pictures, survival_picture
from hvd_adam.study.pictures.critical import critical_picture
from hvd_adam.study.pictures.horizons import horizon_pictures
from hvd_adam.study.pictures.nodes import node_pictures
from hvd_adam.study.pictures.picture import Picture
from hvd_adam.study.pictures.rates import rates_picture
from hvd_adam.study.pictures.steps import efficiency_picture, steps_picture

__all__ = ["Picture", "groups_of", "pictures", "pictures_of"]


def pictures_of(made: Analysis, series: Series) -> list[Picture]:
    """All pictures of one series that its runs can fill."""
    prefix = f"{made.series.index(series) + 1}-" if len(made.series) > 1 else ""
    target = str(made.target)
    found: list[Picture | None] = []
    if any(cell.passages for cell in series.cells):
        found += [steps_picture(series, target, prefix)]
        found += (
            [efficiency_picture(series, prefix)] if series.reached and series.linear and series.axis == "batch" else []
        )
        found += [critical_picture(series, prefix) if series.axis == "batch" else None]
        found += node_pictures(series, prefix)
        found += [survival_picture(series, target, prefix)]
    if any(record.evaluations for cell in series.cells for record in cell.records):
        found += course_pictures(series, made.target, prefix)
    found += [phases_picture(series, prefix)]
    return [picture for picture in found if picture is not None]


def groups_of(made: Analysis) -> list[tuple[str, list[Picture]]]:
    """All pictures of a study by series, under its label; those of no series last, under none."""
    found = [(series.label, pictures_of(made, series)) for series in made.series]
    for place, horizons in enumerate(made.horizons, 1):
        prefix = f"{place}-" if len(made.horizons) > 1 else ""
        found.append((horizons.label, horizon_pictures(horizons, made.target, prefix)))
    rates = rates_picture(made.picks)
    return [*found, *([("", [rates])] if rates else [])]


def pictures(made: Analysis) -> list[Picture]:
    """All pictures of a study."""
    return [picture for _, found in groups_of(made) for picture in found]

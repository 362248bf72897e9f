"""Does the log-normal model fit? Checked on randomised quantile residuals (Dunn and Smyth 1996)."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import levene, shapiro

from hvd_adam.study.contrast import Model
from hvd_adam.study.sample import Study, sample

_DRAWS = 15
_MOST = 5000  # Shapiro and Wilk's p value is not good beyond; as many are drawn


@dataclass(frozen=True, slots=True)
class Goodness:
    """The check of the model's two assumptions on the noise of log T.

    Args:
        normal: p value of Shapiro and Wilk's test; nan with fewer than 8 residuals.
        equal: p value of Brown and Forsythe's test of one spread for all cells; nan without a cell of 3 runs.
        n: residuals.
    """

    normal: float
    equal: float
    n: int

    @property
    def doubtful(self) -> bool:
        """Whether either assumption is rejected at 1 %: intervals cover as in the misspecified kinds."""
        return self.normal < 0.01 or self.equal < 0.01

    def __str__(self) -> str:
        if not self.n:
            return "not checked: no cell has two runs that reached"
        said = "log T is not normal or its spread differs between cells" if self.doubtful else "no objection"
        equal = "needs 3 seeds" if isnan(self.equal) else f"p {self.equal:.2g}"
        normal = "needs 8 runs" if isnan(self.normal) else f"p {self.normal:.2g}"
        return f"{said} (Shapiro-Wilk {normal}, Brown-Forsythe {equal}, n = {self.n})"


def goodness(study: Study, seed: int = 0) -> Goodness:
    """Check the free model on one study.

    A run known to lie in (low, high] gets a residual drawn from the fitted normal law between its two ends, so that the
    residuals are standard normal if the model holds, whatever was censored. Each p value is the median over 15 draws,
    made from `seed`: the same study gets the same answer.
    """
    data = sample([study])
    model = Model(data)
    sigma = float(model.sigma[0])
    known = data.member @ model.known[0].astype(float) > 0
    repeat = np.where(known, data.weight[0], 0).astype(int)
    if not np.isfinite(sigma) or model.df[0] < 1:
        return Goodness(nan, nan, 0)
    mean = np.repeat(data.member @ np.nan_to_num(model.means()[0]), repeat)
    cell = np.repeat(data.member.argmax(1), repeat)
    low, high = (ndtr((np.repeat(ends[0], repeat) - mean) / sigma) for ends in (data.low, data.high))
    rng = np.random.default_rng(seed)
    if len(low) > _MOST:
        some = rng.choice(len(low), _MOST, replace=False)
        low, high, cell = low[some], high[some], cell[some]
    tests = [_tests(ndtri(np.clip(rng.uniform(low, high), 1e-12, 1 - 1e-12)), cell) for _ in range(_DRAWS)]
    normal, equal = np.median(np.array(tests), axis=0).tolist()
    return Goodness(normal, equal, len(low))


def _tests(residuals: np.ndarray, cell: np.ndarray) -> tuple[float, float]:
    if np.ptp(residuals) < 1e-9:  # every run alike: there is no noise to check
        return nan, nan
    normal = float(shapiro(residuals).pvalue) if len(residuals) >= 8 else nan
    groups = [residuals[cell == j] for j in np.unique(cell)]
    groups = [group for group in groups if len(group) >= 2]
    # Two runs lie equally far from their median: only a cell of three has a spread within which to tell apart.
    equal = nan
    if len(groups) >= 2 and max(map(len, groups)) >= 3:
        equal = float(levene(*groups, center="median").pvalue)
    return normal, equal

"""A check for continuous integration: does a classifier's release react to asymmetry more than allowed?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import UsageError


@dataclass(frozen=True)
class Breach:
    """A classifier that does not pass, and why, in one line."""

    source: str
    classifier: str
    reason: str


def gate(effects: pd.DataFrame, max_asymmetry_effect: float, outcome: str = "logit") -> list[Breach]:
    """The classifiers whose asymmetry effect exceeds ``max_asymmetry_effect`` (> 0, in units of ``outcome``).

    ``effects`` are those of an analysis or of ``effects.csv``. The rule, for the primary AE of each source: |estimate|
    must not exceed the limit. A classifier without an AE fails, too: nothing passes for want of data. An empty list
    means that all pass. Raises :class:`UsageError` for a limit that is not positive, or without primary rows.
    """
    if not max_asymmetry_effect > 0:
        raise UsageError(f"the largest asymmetry effect must be a positive number; got {max_asymmetry_effect}")
    rows = effects[effects["primary"].astype(bool) & (effects["contrast"] == "AE") & (effects["outcome"] == outcome)]
    rows = rows.drop_duplicates(["source", "classifier"])
    if rows.empty:
        raise UsageError(f"the effects have no primary asymmetry effect (AE) in {outcome!r}; analyze with matched arms")
    out = []
    for r in rows.itertuples(index=False):
        estimate = float(r.estimate)  # type: ignore[arg-type]
        if not np.isfinite(estimate):
            out.append(Breach(str(r.source), str(r.classifier), f"no asymmetry effect was computed: {r.note}"))
        elif abs(estimate) > max_asymmetry_effect:
            span = f" (interval {r.ci_low:.3g} to {r.ci_high:.3g})" if np.isfinite(float(r.ci_low)) else ""  # type: ignore[arg-type]
            out.append(
                Breach(
                    str(r.source),
                    str(r.classifier),
                    f"the asymmetry effect is {estimate:.3g}{span}; at most ±{max_asymmetry_effect:g} is allowed",
                )
            )
    return out

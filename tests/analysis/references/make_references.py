"""Record reference values of pingouin, statsmodels and scipy for tests/analysis/test_references.py.

Run once, in an environment of its own, and commit the JSON with it:
    python -m venv /tmp/ref && /tmp/ref/bin/pip install pingouin && /tmp/ref/bin/python make_references.py
pingouin is not a dependency of morphsym. The versions and the date are in the file.
"""

from __future__ import annotations

import datetime
import json
import platform
from pathlib import Path

import numpy as np
import pingouin
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW


def main() -> None:
    rng = np.random.default_rng(20240607)
    cases = []
    for n in (5, 12, 31):
        first, second = rng.normal(1.0, 1.3, n), rng.normal(1.4, 0.8, n)
        first[1] = second[1]  # a zero difference
        d = first - second
        wilcoxon = pingouin.wilcoxon(first, second, correction=False, method="approx")
        t = pingouin.ttest(first, second, paired=True)
        tost = pingouin.tost(first, second, bound=0.5, paired=True)
        d_columns = [c for c in t.columns if c.lower().startswith("cohen")]
        cases.append(
            {
                "first": first.tolist(),
                "second": second.tolist(),
                "rank_biserial": float(wilcoxon["RBC"].iloc[0]),
                "t": float(t["T"].iloc[0]),
                "t_p": float(t["p_val" if "p_val" in t else "p-val"].iloc[0]),
                "cohen_d_av": float(t[d_columns[0]].iloc[0]),
                "hedges_g_av": float(pingouin.compute_effsize(first, second, paired=True, eftype="hedges")),
                "tost_p": float(tost["p_val" if "p_val" in tost else "pval"].iloc[0]),
                "ttost_mean_p": float(DescrStatsW(d).ttost_mean(-0.5, 0.5)[0]),
            }
        )
    p = np.concatenate([rng.random(12), rng.random(8) ** 4, [0.01, 0.01, 1.0]])
    ranked = rng.normal(size=(9, 5)) + np.arange(5) * 0.5
    table = {"b": 14, "c": 5}
    x, y, z = rng.normal(size=(3, 40))
    y = y + 0.5 * x + 0.7 * z
    import pandas as pd

    frame = pd.DataFrame({"x": x, "y": y, "z": z, "w": rng.normal(size=40)})
    partial = pingouin.partial_corr(frame, "x", "y", ["z", "w"], method="spearman")
    out = {
        "made": datetime.date.today().isoformat(),
        "versions": {
            "python": platform.python_version(),
            "pingouin": pingouin.__version__,
            "scipy": scipy.__version__,
            "statsmodels": statsmodels.__version__,
            "numpy": np.__version__,
        },
        "paired": cases,
        "corrections": {
            "p": p.tolist(),
            "holm": multipletests(p, method="holm")[1].tolist(),
            "fdr_bh": multipletests(p, method="fdr_bh")[1].tolist(),
        },
        "page": {
            "ranked": ranked.tolist(),
            "statistic": float(stats.page_trend_test(ranked).statistic),
            "exact": float(stats.page_trend_test(ranked, method="exact").pvalue),
            "asymptotic": float(stats.page_trend_test(ranked, method="asymptotic").pvalue),
        },
        "mcnemar": {**table, "p": float(mcnemar([[30, 14], [5, 11]], exact=True).pvalue)},
        "partial_spearman": {
            "frame": frame.to_dict("list"),
            "r": float(partial["r"].iloc[0]),
            "p": float(partial["p_val" if "p_val" in partial else "p-val"].iloc[0]),
        },
    }
    Path(__file__).with_name("references.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()

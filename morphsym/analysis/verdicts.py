"""One sentence a classifier, by stated rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .records import AnalysisOptions

STATES = ("lowers", "raises", "equivalent", "inconclusive", "untested")

RULES = (
    "A verdict is read from the primary estimand: {outcome}, strength {strength}, region {region}, averaged over "
    "emotions and sides, one number a subject. In this order: 'untested' with fewer than two subjects; 'equivalent' "
    "(to no effect) if two one-sided t tests, Holm-corrected over the primary family, put the effect within "
    "±{sesoi:g} (p < {alpha:g}), be it detectable or not; 'inconclusive' if the estimate is smaller than the null "
    "error, that is, than what rendering alone does; 'lowers' or 'raises' by the sign of the estimate if the {test} "
    "test, corrected by {correction} over the primary family (TE and AE of every classifier of the source), has "
    "p < {alpha:g}; else 'inconclusive'."
)


def state(row: pd.Series, equivalence_p: float, alpha: float) -> str:
    """The verdict of one primary row; the rules are :data:`RULES`."""
    if row["n_subjects"] < 2 or not np.isfinite(row["estimate"]):
        return "untested"
    if equivalence_p < alpha:
        return "equivalent"
    if bool(row["below_null_error"]) or not row["p_adjusted"] < alpha:
        return "inconclusive"
    return "lowers" if row["estimate"] < 0 else "raises"


def differing(table: pd.DataFrame, by_people: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """``table`` with a column ``differs_by_emotion``: contrasts ('TE', 'AE', 'TE, AE' or '') whose effect differs between
    emotions (Friedman's test, adjusted p < ``alpha``, from the heterogeneity), and the sentence says so for AE: an
    average may hide effects of opposite sign."""
    found: dict[tuple[str, str], list[str]] = {}
    if len(by_people):
        rows = by_people[(by_people["test"] == "friedman") & (by_people["p_adjusted"] < alpha)]
        for r in rows.itertuples(index=False):
            found.setdefault((str(r.source), str(r.classifier)), []).append(str(r.contrast))
    who = list(zip(table["source"], table["classifier"]))
    out = table.assign(differs_by_emotion=[", ".join(found.get(w, [])) for w in who])
    more = [" It differs between emotions." if "AE" in found.get(w, []) else "" for w in who]
    return out.assign(sentence=[s + m for s, m in zip(table["sentence"], more)])


def number(x: float, digits: int = 2) -> str:
    """``x`` with a true minus sign; never '−0.00'."""
    text = f"{x:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def p_text(p: float) -> str:
    """'p = 0.012', 'p < 0.001'."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _clause(row: pd.Series, verdict: str, options: AnalysisOptions) -> str:
    """'lowers it by 0.61 (95 % CI −0.70 to −0.52, p < 0.001)'."""
    level = f"{options.confidence * 100:g} % CI"
    digits = 2 if row["outcome"] == "logit" else 3
    size = number(abs(row["estimate"]), digits)
    if verdict == "untested":
        return f"changes it by {number(row['estimate'], digits)} ({row['note'] or 'no test'})"
    span = f"{level} {number(row['ci_low'], digits)} to {number(row['ci_high'], digits)}"
    if verdict in ("lowers", "raises"):
        return f"{verdict} it by {size} ({span}, {p_text(row['p_adjusted'])})"
    if verdict == "equivalent":
        bound = number(options.sesoi[row["outcome"]], digits)
        return f"is equivalent to no effect ({number(row['estimate'], digits)}, {span}, within ±{bound})"
    why = "smaller than the null error" if row["below_null_error"] else p_text(row["p_adjusted"])
    return f"is inconclusive ({number(row['estimate'], digits)}, {span}, {why})"


def verdicts(effects: pd.DataFrame, options: AnalysisOptions) -> pd.DataFrame:
    """One row a source × classifier from the primary rows of ``effects`` (contrasts TE and AE; see RULES).

    Columns: source, classifier, total, asymmetry, sentence, te, te_low, te_high, te_p_adjusted, te_equivalence_p,
    te_dz, ae, …, asymmetry_share, strength, region, outcome, n_subjects, n_units, n_excluded, note.
    """
    mine = effects[effects["primary"] & effects["contrast"].isin(("TE", "AE"))]
    primary = mine[mine["test"].isin((options.primary_test, "none"))]
    equivalence = mine[mine["test"] == "tost"].set_index(["source", "classifier", "contrast"])["p_holm"]
    out: list[dict[str, Any]] = []
    for (source, classifier), group in primary.groupby(["source", "classifier"], sort=False):
        record: dict[str, Any] = {"source": source, "classifier": classifier}
        clauses, notes = {}, []
        for contrast, name in (("TE", "total"), ("AE", "asymmetry")):
            rows = group[group["contrast"] == contrast]
            key = contrast.lower()
            if rows.empty or not np.isfinite(rows["estimate"].iloc[0]):
                record[name] = "untested"
                reason = rows["note"].iloc[0] if len(rows) else f"{contrast} was not computed"
                clauses[contrast] = f"could not be computed ({reason})"
                notes.append(f"{contrast}: {reason}")
                record |= {f"{key}{x}": np.nan for x in ("", "_low", "_high", "_p_adjusted", "_equivalence_p", "_dz")}
                continue
            row = rows.iloc[0]
            q = float(equivalence.get((source, classifier, contrast), np.nan))  # type: ignore[arg-type]
            record[name] = state(row, q, options.alpha)
            clauses[contrast] = _clause(row, record[name], options)
            record |= {
                key: row["estimate"], f"{key}_low": row["ci_low"], f"{key}_high": row["ci_high"],
                f"{key}_p_adjusted": row["p_adjusted"], f"{key}_equivalence_p": q, f"{key}_dz": row["effect_size"],
            }  # fmt: skip
            record |= {k: row[k] for k in ("strength", "region", "outcome", "n_subjects", "n_units", "n_excluded")}
            if row["note"]:
                notes.append(f"{contrast}: {row['note']}")
        if "outcome" not in record:
            record |= {k: group.iloc[0][k] for k in ("strength", "region", "outcome")}
            record |= {"n_subjects": 0, "n_units": 0, "n_excluded": int(group["n_excluded"].max())}
        share = np.nan
        if record["total"] in ("lowers", "raises") and np.isfinite(record["ae"]):
            share = record["ae"] / record["te"]
        record["asymmetry_share"] = share
        word = "centred logit" if record["outcome"] == "logit" else "probability"
        record["sentence"] = (
            f"{classifier}: taking the expression of one half of the face away (strength {record['strength']:g}) "
            f"{_join(clauses['TE'], 'it', f'the {word} of the emotion')}; the asymmetry itself {clauses['AE']}."
        )
        record["note"] = "; ".join(notes)
        out.append(record)
    return pd.DataFrame(out)


def _join(clause: str, pronoun: str, noun: str) -> str:
    """Name the outcome at its first mention."""
    return clause.replace(f" {pronoun} ", f" {noun} ", 1)


def k_of_n(table: pd.DataFrame, source: str) -> dict[str, Any]:
    """Counts of the verdicts of one source, and a sentence that says them."""
    mine = table[table["source"] == source]
    n = len(mine)
    out: dict[str, Any] = {"n_classifiers": n}
    for part in ("total", "asymmetry"):
        out[part] = {s: int((mine[part] == s).sum()) for s in STATES}
    who = "sampled people" if source == "sampled" else "photos"
    if out["total"]["untested"] == n:
        subjects = int(mine["n_subjects"].max())
        why = "a single subject" if subjects == 1 else f"{subjects} subjects with complete pairs"
        out["sentence"] = f"On {who}: {n} classifiers are shown with their numbers; {why} allows no test."
        return out
    t, a = out["total"], out["asymmetry"]
    out["sentence"] = (
        f"On {who}, {t['lowers']} of {n} classifiers lower their output when one half of the face loses its expression"
        f"{_others(t)}; the asymmetry itself, at equal total expression, lowers it in {a['lowers']} of {n}{_others(a)}."
    )
    return out


def _others(counts: dict[str, int]) -> str:
    words = {
        "raises": "raised",
        "equivalent": "equivalent to no effect",
        "inconclusive": "inconclusive",
        "untested": "untested",
    }
    parts = [f"{counts[k]} {w}" for k, w in words.items() if counts[k]]
    return f" ({', '.join(parts)})" if parts else ""

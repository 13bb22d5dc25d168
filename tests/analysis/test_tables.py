"""Target values, pairs, contrasts and exclusions: what is computed from the tables, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from morphsym.analysis.estimands import cells, contrasts, unit_table
from morphsym.analysis.frames import target_values
from morphsym.analysis.pairing import exclusions, pair
from morphsym.errors import InputError

from .factory import SEVEN, Planted, predict, tables

EXACT = {"exact": Planted(ie=-0.8, ae=-0.6, side_bias=0.2, mirror_bias=0.3, noise=0.0, between=0.0, null_error=0.05)}


def value(table: pd.DataFrame, contrast: str, **where: object) -> np.ndarray:
    for k, v in {"contrast": contrast, "outcome": "logit", **where}.items():
        table = table[table[k] == v]
    return table["value"].to_numpy()


def units_of(conditions: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    targets = target_values(conditions, predictions)
    blocks = [b for o in ("logit", "probability") for b in contrasts(targets, pair(targets), o)]
    return unit_table(blocks, targets.classifiers)


def test_planted_contrasts_come_back() -> None:
    conditions, predictions = tables(n_subjects=3, classifiers=EXACT, source="photo")
    table = units_of(conditions, predictions)
    for side, te in (("left", -1.3), ("right", -1.5)):
        np.testing.assert_allclose(value(table, "TE", side=side, strength=1.0), te, atol=1e-5)
        np.testing.assert_allclose(value(table, "TE", side=side, strength=0.5), te / 2, atol=1e-5)
    np.testing.assert_allclose(value(table, "IE", strength=1.0), -0.8, atol=1e-5)
    np.testing.assert_allclose(value(table, "AE", side="left", strength=1.0), -0.5, atol=1e-5)
    np.testing.assert_allclose(value(table, "side_bias", strength=1.0), 0.2, atol=1e-5)
    np.testing.assert_allclose(value(table, "mirror_bias"), 0.3, atol=1e-5)
    np.testing.assert_allclose(value(table, "null_error"), 0.05, atol=1e-5)
    np.testing.assert_allclose(value(table, "rerender"), 0.0, atol=1e-5)


def test_total_is_intensity_plus_asymmetry_in_every_unit_and_outcome() -> None:
    table = units_of(*tables(n_subjects=4))
    key = ["classifier", "unit", "side", "strength", "outcome"]
    wide = table[table["contrast"].isin(["TE", "IE", "AE"])].pivot_table(
        index=key, columns="contrast", values="value", observed=True
    )
    np.testing.assert_allclose(wide["TE"], wide["IE"] + wide["AE"], atol=1e-12)


def test_a_target_is_the_centred_logit_and_agrees_with_centred_log_probabilities() -> None:
    conditions, predictions = tables(n_subjects=2)
    targets = target_values(conditions, predictions)
    one = predictions[
        (predictions["classifier"] == "reacts") & (predictions["condition"] == targets.conditions["condition"][3])
    ]
    emotion = targets.conditions["expression"][3]
    z = one.set_index("emotion")["logit"].astype(float)
    c = targets.classifiers.index("reacts")
    assert targets.logit[3, c] == pytest.approx(z[emotion] - z.mean(), abs=1e-12)
    logp = log_softmax(z.to_numpy())  # a classifier that only gives probabilities gives these
    assert targets.logit[3, c] == pytest.approx(logp[list(z.index).index(emotion)] - logp.mean(), abs=1e-6)
    assert targets.probability[3, c] == pytest.approx(float(one.set_index("emotion")["probability"][emotion]))
    assert targets.hit[3, c] == int(z.idxmax() == emotion)


def test_row_order_and_dictionary_encoding_do_not_matter() -> None:
    conditions, predictions = tables(n_subjects=3)
    a = units_of(conditions, predictions)
    shuffled = predictions.sample(frac=1, random_state=0).astype(
        dict.fromkeys(("condition", "classifier", "label", "emotion"), "category")
    )
    b = units_of(conditions.sample(frac=1, random_state=1), shuffled)
    key = ["classifier", "unit", "side", "strength", "outcome", "contrast"]
    a, b = (x.astype(dict.fromkeys(key, str)).sort_values(key)["value"].to_numpy() for x in (a, b))
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_failed_condition_takes_its_whole_triple_out_and_is_named() -> None:
    conditions, _ = tables(n_subjects=3, emotions=("happiness",))
    where = (
        (conditions["unit"] == "s0001.happiness") & (conditions["arm"] == "matched") & (conditions["side"] == "left")
    )
    where &= conditions["strength"] == 0.5
    conditions.loc[where, ["status", "reason"]] = ["failed", "no coverage"]
    predictions = predict(conditions, EXACT, 0)
    table = units_of(conditions, predictions)
    for contrast in ("TE", "IE", "AE"):
        assert len(value(table, contrast, side="left", strength=0.5)) == 2
        assert len(value(table, contrast, side="right", strength=0.5)) == 3
    assert len(value(table, "side_bias", strength=0.5)) == 2
    targets = target_values(conditions, predictions)
    out = exclusions(targets, pair(targets))
    assert out[["unit", "arm", "side", "strength"]].values.tolist() == [["s0001.happiness", "matched", "left", 0.5]]
    assert out["reason"].item() == "condition failed: no coverage"


def test_a_failed_baseline_takes_the_unit_out() -> None:
    conditions, _ = tables(n_subjects=3, emotions=("happiness",))
    conditions.loc[conditions["condition"].str.startswith("s0002.happiness/baseline"), "status"] = "failed"
    table = units_of(conditions, predict(conditions, EXACT, 0))
    assert set(table["unit"]) == {"s0000.happiness", "s0001.happiness"}


def test_a_classifier_without_the_emotion_is_left_out_for_it_alone_with_a_reason() -> None:
    classifiers = {"all": Planted(), "no-surprise": Planted(labels=tuple(e for e in SEVEN if e != "surprise"))}
    conditions, predictions = tables(n_subjects=3, classifiers=classifiers)
    targets = target_values(conditions, predictions)
    out = exclusions(targets, pair(targets))
    assert out["classifier"].tolist() == ["no-surprise"]
    assert out["reason"].tolist() == ["the classifier has no label for surprise"]
    table = units_of(conditions, predictions)
    assert set(table.loc[table["classifier"] == "no-surprise", "emotion"]) == {"happiness", "sadness"}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p: p.drop(p.index[3]), "incomplete prediction: fewer than the classifier's 7 labels"),
        (lambda p: p.assign(logit=p["logit"].where(p.index != 3)), "the classifier gave a logit that is not finite"),
        (lambda p: p[p["condition"] != p["condition"].iloc[0]], "no prediction of this classifier"),
    ],
)
def test_what_a_classifier_lacks_is_said(spoil, reason: str) -> None:  # type: ignore[no-untyped-def]
    conditions, predictions = tables(n_subjects=2, emotions=("happiness",), classifiers=EXACT)
    targets = target_values(conditions, spoil(predictions))
    out = exclusions(targets, pair(targets))
    assert len(out) == 1
    assert out["reason"].iloc[0].startswith(reason)
    assert out["condition" if "condition" in out else "unit"].iloc[0] == "s0000.happiness"
    assert np.isnan(targets.logit[0, 0])


def test_a_predictions_file_cut_in_half_is_one_sentence_and_no_crash() -> None:
    conditions, predictions = tables(n_subjects=10, emotions=("happiness",), classifiers=EXACT)
    targets = target_values(conditions, predictions.iloc[: len(predictions) // 2])
    out = exclusions(targets, pair(targets))
    assert out["count"].max() > 50
    assert "classification stopped early, or the file is cut" in " ".join(out["reason"])
    assert len(out) <= 2


def test_predictions_of_another_run_are_counted_and_left_out() -> None:
    conditions, predictions = tables(n_subjects=2, classifiers=EXACT)
    other = predictions.iloc[:14].assign(condition="other/" + predictions["condition"].iloc[:14])
    targets = target_values(conditions, pd.concat([predictions, other]))
    out = exclusions(targets, pair(targets))
    assert out["count"].tolist() == [14]
    assert "not in this run" in out["reason"].iloc[0]
    with pytest.raises(InputError, match="no prediction belongs to a condition of this run"):
        target_values(conditions, other)


def test_the_subject_is_averaged_before_anything_else() -> None:
    conditions, predictions = tables(n_subjects=5, seed=3)
    targets = target_values(conditions, predictions)
    part = cells(contrasts(targets, pair(targets), "logit"), targets.classifiers, "sampled")
    assert part.values.shape == (5, len(part.table))
    table = unit_table(contrasts(targets, pair(targets), "logit"), targets.classifiers)
    for k in range(0, len(part.table), 17):
        row = part.table.iloc[k]
        mine = table[(table["classifier"] == row["classifier"]) & (table["contrast"] == row["contrast"])]
        for column in ("emotion", "side", "strength", "region"):
            value = row[column]
            if (column, value) in (("emotion", "all"),) or (column == "side" and "side" in row["pooled"]):
                continue
            mine = mine[mine[column] == value]
        want = mine.astype({"subject": str}).groupby("subject")["value"].mean()
        np.testing.assert_allclose(part.values[:, k], want.reindex(list(part.subjects)), atol=1e-12)
        assert row["n_units"] == mine["unit"].nunique()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c, p: (c.drop(columns="arm"), p), "lacks the columns arm"),
        (lambda c, p: (c.iloc[:0], p), "has no rows"),
        (lambda c, p: (c, p.iloc[:0]), "there are no predictions"),
        (lambda c, p: (c, p.drop(columns="logit")), "lack the columns logit"),
        (lambda c, p: (c.assign(side="up"), p), "column 'side' must be one of left, right, both, none"),
        (lambda c, p: (c.assign(expression="joy"), p), "column 'expression' must be one of anger"),
        (lambda c, p: (c.assign(strength=1.5), p), "strength must be a number from 0 to 1"),
        (lambda c, p: (pd.concat([c, c]), p), "occurs twice; two runs in one folder"),
        (lambda c, p: (c.assign(subject=c["condition"]), p), "has more than one subject"),
        (lambda c, p: (c[c["strength"] == 0], p), "nothing to compare"),
        (lambda c, p: (c, p.assign(emotion="joy")), "emotion must be one of anger"),
        (lambda c, p: (c, pd.concat([p, p.assign(logit=p["logit"] + 1)])), "two different logits"),
        (lambda c, p: (c, pd.concat([p, p.assign(emotion="fear")])), "to two emotions"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_clear_line(spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    conditions, predictions = spoil(*tables(n_subjects=2, emotions=("happiness",), classifiers=EXACT))
    with pytest.raises(InputError, match=message) as caught:
        pair(target_values(conditions, predictions))
    assert "\n" not in str(caught.value)

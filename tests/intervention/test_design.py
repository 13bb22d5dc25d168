"""The design is counted before it runs, and refuses what makes no sense."""

import pytest

from morphsym.errors import UsageError
from morphsym.intervention import DEFAULT_ARMS, Design, Level


def test_conditions_of_a_photo_and_of_a_person():
    design = Design(sides=("left",), strengths=(0.5,))
    photo = [c.condition for c in design.conditions("u", "photo")]
    assert photo == [
        "u/original/none/0/none",
        "u/baseline/none/0/none",
        "u/null/none/0/none",
        "u/mirrored_baseline/none/0/none",
        "u/unilateral/left/0.5/all",
        "u/matched/left/0.5/all",
        "u/mirrored_unilateral/left/0.5/all",
    ]
    assert [c.condition for c in design.conditions("u", "sampled")] == [photo[i] for i in (1, 2, 3, 4, 5, 6)]


def test_default_count_is_the_product():
    design = Design()
    assert design.count(n_photos=1, n_sampled=0) == 4 + 2 * 4 * 3
    assert design.count(n_photos=0, n_sampled=72) == 72 * (3 + 2 * 4 * 3)


def test_both_sides_have_no_symmetric_control():
    arms = {c.arm for c in Design(sides=("both",), strengths=(0.5,)).conditions("u", "sampled")}
    assert "unilateral" in arms
    assert "matched" not in arms


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"strengths": (1.5,)}, "between 0 .* and 1 .*got 1.5"),
        ({"strengths": (float("nan"),)}, "between 0 .* and 1 .*got nan"),
        ({"strengths": ()}, "at least one strength"),
        ({"sides": ("up",)}, "side must be one of left, right, both; got 'up'"),
        ({"regions": ("ear",)}, "region must be one of all, brow"),
        ({"include": ("teeth",)}, "include must be one of jaw, gaze, tongue"),
        ({"arms": ("unilateral",)}, "baseline arm"),
        ({"matched_by": "weight"}, "matched-by must be one of"),
    ],
)
def test_refuses(kwargs, message):
    with pytest.raises(UsageError, match=message):
        Design(**kwargs)


def test_repeated_values_count_once():
    assert Design(strengths=(0.5, 0.5), sides=("left", "left")).count(0, 1) == 6


def test_arms_that_are_asked_for_stand_beside_the_others():
    base = Design(sides=("left", "both"), strengths=(0.5, 1.0))
    more = Design(
        sides=("left", "both"), strengths=(0.5, 1.0), arms=(*DEFAULT_ARMS, "placebo"), rest_droop=0.5, matched_sensitivity=True
    )  # fmt: skip
    plain, asked = (d.conditions("u", "photo") for d in (base, more))
    assert [c for c in asked if c.arm in DEFAULT_ARMS] == plain
    new = [c for c in asked if c.arm not in DEFAULT_ARMS]
    assert {c.side for c in new} == {"left"}  # a weakness of both sides has no such arm
    assert [(c.arm, c.strength) for c in new] == [
        ("placebo", 0.5), ("unilateral_droop", 0.5),
        ("placebo", 1.0), ("unilateral_droop", 1.0), ("matched_coefficients", 1.0), ("matched_landmarks", 1.0),
    ]  # fmt: skip
    assert more.count(1, 2) == len(asked) + 2 * (len(asked) - 1)


def test_clinical_patterns_stand_beside_the_regions():
    both = Design(clinical=("house-brackmann-4", "temporal"), strengths=(1.0,), sides=("left",))
    assert both.areas() == ("all", "house-brackmann-4", "temporal")
    alone = Design(clinical=("temporal",), regions=(), strengths=(1.0,), sides=("left",))
    assert {c.region for c in alone.conditions("u", "sampled")} == {"none", "temporal"}


def test_levels_are_the_product_of_what_is_swept():
    assert Design().levels() == (Level(),)
    assert Level().name == ""
    levels = Design(yaw=(-20, 0.0), light=("left", "soft")).levels()
    assert [x.name for x in levels] == [
        "yaw-20.light-left", "yaw-20.light-soft", "yaw+0.light-left", "yaw+0.light-soft",
    ]  # fmt: skip


def test_old_manifests_and_new_designs_are_one_format():
    assert set(Design().to_dict()) == {"sides", "strengths", "regions", "include", "arms", "matched_by"}
    asked = Design(("left",), arms=(*DEFAULT_ARMS, "placebo"), rest_droop=1, skin=("VI",))
    plain = asked.to_dict()
    again = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
    assert Design(**again) == asked


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"clinical": ("house-brackmann-7",)}, "clinical preset must be one of house-brackmann-1"),
        ({"regions": ()}, "at least one region"),
        ({"rest_droop": 1.5}, "droop at rest must lie between 0"),
        ({"arms": (*DEFAULT_ARMS, "unilateral_droop")}, "needs rest_droop"),
        ({"arms": ("baseline", "placebo")}, "placebo needs the arm unilateral"),
        ({"arms": ("baseline", "unilateral"), "matched_sensitivity": True}, "compared with the arms unilateral and matched"),
        ({"arms": (*DEFAULT_ARMS, "matched_mesh")}, "is the arm matched, whose rule is mesh"),
        ({"yaw": (75.0,)}, "yaw must lie between -60 and 60 degrees, got 75"),
        ({"light": ("disco",)}, "light must be one of front, left, right, above, soft; got 'disco'"),
        ({"skin": ("VII",)}, "skin must be one of I, II"),
    ],
)  # fmt: skip
def test_refuses_what_is_asked_for_wrongly(kwargs, message):
    with pytest.raises(UsageError, match=message):
        Design(**kwargs)

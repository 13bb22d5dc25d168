"""The design is counted before it runs, and refuses what makes no sense."""

import pytest

from morphsym.errors import UsageError
from morphsym.intervention import Design


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

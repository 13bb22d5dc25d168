"""``study.yaml``: the template runs, every mistake is one clear line, the schema says the same."""

import json

import pytest
import yaml

from morphsym.analysis import AnalysisOptions
from morphsym.errors import InputError, UsageError
from morphsym.experiment import spec
from morphsym.experiment.study import Study, Units
from morphsym.faces import load_model
from morphsym.intervention import Design

PEOPLE = {"people": {"count": 1}}


def test_the_template_is_the_defaults():
    found = spec.parse(yaml.safe_load(spec.template()))
    assert found == spec.parse({"people": {"count": 20}})
    study = found.study(spec.Path("."))
    assert study == Study(sample=20)
    assert study.design == Design()
    assert found.options() == AnalysisOptions()


def test_the_template_names_every_key():
    text = spec.template()
    for model in (spec.StudyFile, *(m for m in spec._sections(spec.StudyFile).values() if m)):
        for name, field in model.model_fields.items():
            assert f"{name}:" in text
            if spec._sections(model)[name] is None:
                assert field.description
                assert field.description in text


def test_the_template_uncommented_is_valid_yaml():
    """Each choice that is commented out can be switched on by taking the '# ' away."""
    lines = [x.removeprefix("# ") if x.startswith("# ") and ":" in x.split("  #")[0] else x for x in
             spec.template().splitlines()]  # fmt: skip
    found = yaml.safe_load("\n".join(x for x in lines if not x.startswith("#") and "Run it with" not in x))
    assert found["photos"]["paths"] == ["photos/"]
    assert "workers" in found["run"]
    assert "primary_strength" in found["analysis"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"poeple": {"count": 1}}, r"unknown key 'poeple'; did you mean 'people'\?"),
        ({"people": {"cuont": 3}}, r"unknown key 'people.cuont'; did you mean 'people.count'\?"),
        (PEOPLE | {"strengths": [1]}, r"unknown key 'strengths'; did you mean 'design.strengths'\?"),
        (PEOPLE | {"xyz": 1}, r"unknown key 'xyz'; known are model, photos"),
        ({"people": {"count": "3"}}, "people.count must be a whole number; got '3'"),
        ({"people": {"count": 2.5}}, "people.count must be a whole number; got 2.5"),
        ({"people": {}}, "people.count is missing"),
        ({"people": 3}, "people must hold keys and values, got a number"),
        ({"people": {"count": 0}}, "people.count must be greater than or equal to 1; got 0"),
        ({"people": {"count": 1, "expressions": ["hapiness"]}}, "got 'hapiness'; did you mean 'happiness'"),
        (PEOPLE | {"design": {"strengths": [1.5]}}, "design.strengths.0 must be less than or equal to 1; got 1.5"),
        (PEOPLE | {"design": {"sides": "left"}}, "design.sides must be a list; got 'left'"),
        (PEOPLE | {"design": {"strengths": []}}, "design.strengths .*at least 1"),
        (PEOPLE | {"seed": -1}, "seed must be greater than or equal to 0"),
        ({}, "nobody to intervene on"),
        (PEOPLE | {"fits": "f", "photos": {"paths": ["a"]}}, "photos and fits are both given"),
        (PEOPLE | {"design": {"arms": ["unilateral"]}}, "lacks baseline"),
        (PEOPLE | {"design": {"arms": ["baseline", "matched"]}}, "matched without unilateral"),
        (PEOPLE | {"design": {"arms": ["baseline", "mirrored_unilateral"]}}, "mirrored_unilateral without unilateral"),
        (PEOPLE | {"analysis": {"primary_strength": 0.3}}, "primary_strength 0.3 is none of design.strengths"),
        (PEOPLE | {"analysis": {"primary_region": "eye"}}, "primary_region eye is none of design.regions"),
        (PEOPLE | {"nuisance": {"background": [0.9, 0.1]}}, "from dark to light"),
        (PEOPLE | {"run": {"address": "auto"}}, "run.address is for run.engine ray"),
        ({"photos": {"paths": ["a", "b"], "landmarks": "x.pts"}}, "photos.landmarks is for one photo"),
    ],
)
def test_mistakes(values, message):
    with pytest.raises(UsageError, match=message) as caught:
        spec.parse(values)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("study.yaml: ")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="there is no file .*morphsym init"):
        spec.load(tmp_path / "study.yaml")
    for text, message in (
        ("people: [", "line 1, column 10 is not YAML"),
        ("", "is empty"),
        ("- 1", "must hold keys and values, not a list"),
    ):
        (tmp_path / "study.yaml").write_text(text)
        with pytest.raises(UsageError, match=message):
            spec.load(tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        spec.load(tmp_path / "study.yaml")


def test_overrides(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(spec.template())
    found = spec.load(path, ["people.count=200", "design.strengths=[0.5, 1]", "nuisance.yaw=0", "run.workers=3"])
    assert found.people is not None
    assert found.people.count == 200
    assert found.design.strengths == [0.5, 1]
    assert found.nuisance.yaw == 0
    assert found.run.workers == 3
    with pytest.raises(UsageError, match="--set takes key=value"):
        spec.load(path, ["people.count"])
    with pytest.raises(UsageError, match=r"unknown key 'people.cont'; did you mean 'people.count'"):
        spec.load(path, ["people.cont=3"])
    with pytest.raises(UsageError, match="--set seed.x: seed holds a number"):
        spec.load(path, ["seed.x=3"])


def test_the_arm_null_may_stand_without_quotes(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("people: {count: 1}\ndesign: {arms: [baseline, null, unilateral]}")
    assert spec.load(path).design.arms == ["baseline", "null", "unilateral"]


def test_the_schema_is_json_and_refuses_unknown_keys():
    made = json.loads(json.dumps(spec.schema()))
    assert made["additionalProperties"] is False
    assert made["$defs"]["People"]["properties"]["count"]["minimum"] == 1
    assert "happiness" in json.dumps(made["$defs"]["People"])
    assert set(made["properties"]) == set(spec.StudyFile.model_fields)


def test_nuisance_reaches_the_people():
    model = load_model("makehuman")
    calm = spec.parse(PEOPLE | {"nuisance": {"yaw": 0, "pitch": 0, "roll": 0, "background": [0.5, 0.5]}})
    unit = next(iter(Units(calm.study(spec.Path(".")), model)))
    assert unit.attributes["yaw"] == unit.attributes["pitch"] == unit.attributes["roll"] == 0
    assert unit.background == pytest.approx((0.5,) * 3, abs=0.08)
    usual = next(iter(Units(spec.parse(PEOPLE).study(spec.Path(".")), model)))
    assert usual.attributes["yaw"] != 0


def test_any_stretch_of_units_is_the_same():
    model = load_model("makehuman")
    units = Units(Study(sample=3, expressions=("happiness", "fear"), size=64, seed=4), model)
    whole = [u.unit for u in units]
    assert len(whole) == len(units) == 6
    for start, stop in ((0, 1), (1, 4), (3, 6), (5, 9)):
        part = list(units.between(start, stop))
        assert [u.unit for u in part] == whole[start:stop]
    last = next(iter(units.between(5, 6)))
    assert (last.identity == list(units)[5].identity).all()
    assert units.conditions(1, 4) == 3 * len(Design().conditions("u", "sampled"))

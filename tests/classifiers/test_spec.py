"""Every field of a specification has its own clear error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from morphsym.classifiers.spec import ARCFACE_TEMPLATE, parse_spec, read_specs
from morphsym.errors import InputError

BASE = {"id": "mine", "backend": "onnx", "labels": ["happy", "sad"], "input_size": 64}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "a b"}, "id: expected letters, digits"),
        ({"backend": "caffe"}, "backend: input should be 'torch'"),
        ({"labels": ["happy"]}, "labels: .*at least 2"),
        ({"labels": ["happy", "happy"]}, "labels: a label occurs twice"),
        ({"labels": ["happy", "grumpy"]}, "emotions: the label 'grumpy' has no known meaning; map it to one of"),
        ({"emotions": {"glad": "happiness"}}, "emotions: 'glad' is not one of the labels"),
        ({"emotions": {"sad": "gloom"}}, "emotions: 'sad' maps to 'gloom', expected one of"),
        ({"emotions": {"sad": "happiness"}}, "emotions: two labels map to happiness"),
        ({"emotions": {"sad": None, "happy": None}}, "no label maps to a canonical emotion"),
        ({"input_size": 4}, "input_size: expected .height, width., each 8 to 2048"),
        ({"input_size": [64, 64, 64]}, "input_size"),
        ({"sha256": "abc"}, "sha256: expected 64 lower-case hexadecimal digits"),
        ({"golden": [1.0]}, "golden: expected 2 numbers .labels., got 1"),
        (
            {"weights": {"file": "w", "url": "http://example.org/w"}},
            "weights.url: expected a URL that begins with https",
        ),
        ({"weights": {"file": "../../w", "url": "https://x/w"}}, "file: expected a name below the weights folder"),
        ({"weights": {"file": "/etc/w", "url": "https://x/w"}}, "file: expected a name below the weights folder"),
        ({"layout": "CHW"}, "layout: input should be 'NCHW' or 'NHWC'"),
        ({"colour": "gray"}, "colour: input should be 'rgb', 'bgr' or 'grey'"),
        ({"color": "rgb"}, "color: is not a field of a classifier specification"),
        ({"grey_weights": [1, 2]}, "grey_weights"),
        ({"channels": 1}, "channels: 1 needs colour: grey, got colour: rgb"),
        ({"scale": 0}, "scale: input should be greater than 0"),
        ({"mean": [1, 2]}, "mean: expected 1 or 3 numbers .channels of the input., got 2"),
        ({"std": [1, 0, 1]}, "std: expected positive numbers"),
        ({"resize": {"interpolation": "lanczos"}}, "resize.interpolation: input should be"),
        ({"crop": {"kind": "circle"}}, "crop.kind: input should be 'box', 'align' or 'full'"),
        ({"crop": {"margin": 0}}, "crop.margin: input should be greater than 0.1"),
        ({"crop": {"template": [[0, 0]]}}, "crop.template.* five .x, y. points"),
        ({"crop": {"outside": 2}}, "crop.outside"),
        ({"output": {"kind": "scores"}}, "output.kind: input should be 'logits', 'probabilities'"),
        ({"output": {"select": [1.5]}}, "output.select"),
        ({"batch_limit": 0}, "batch_limit: input should be greater than or equal to 1"),
        ({"timeout": 0}, "timeout: input should be greater than 0"),
        ({"backend": "torch"}, "factory: backend torch needs 'module:callable'"),
        ({"backend": "torch", "factory": "os.system"}, "factory: expected 'module:callable', got 'os.system'"),
        ({"backend": "http", "source": "localhost"}, "source: backend http needs a URL, got 'localhost'"),
        ({"reported": [{"dataset": "x"}]}, "reported.0.value: is missing"),
    ],
)
def test_each_field_says_what_is_wrong(change, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_spec({**BASE, **change}, "mine.yaml")
    text = str(caught.value)
    assert text.startswith("mine.yaml (")
    assert "\n" not in text


def test_missing_fields_are_all_named():
    with pytest.raises(InputError) as caught:
        parse_spec({"id": "x"})
    for field in ("backend", "labels", "input_size"):
        assert f"{field}: is missing" in str(caught.value)


def test_meaning_of_labels():
    spec = parse_spec({**BASE, "labels": ["Joy", "Sad", "Other"], "emotions": {"Other": None}})
    assert spec.label_emotions == ("happiness", "sadness", None)
    assert spec.emotion_index("sadness") == 1
    assert spec.emotion_index("fear") is None


def test_arcface_template_is_the_published_one():
    """InsightFace's arcface_dst, 112×112 pixels."""
    published = [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
    for got, expected in zip(ARCFACE_TEMPLATE, published, strict=True):
        assert (got[0] * 112, got[1] * 112) == pytest.approx(expected, abs=5e-3)


def test_yaml_files(tmp_path):
    one = tmp_path / "one.yaml"
    one.write_text("id: a\nbackend: onnx\nlabels: [happy, sad]\ninput_size: 48\n")
    assert [s.id for s in read_specs(one)] == ["a"]
    many = tmp_path / "many.yaml"
    entry = "{backend: onnx, labels: [happy, sad], input_size: 48, id: %s}"
    many.write_text("classifiers:\n" + "".join(f"  - {entry % i}\n" for i in ("a", "b")))
    assert [s.id for s in read_specs(many)] == ["a", "b"]
    many.write_text("".join(f"- {entry % i}\n" for i in ("a", "a")))
    with pytest.raises(InputError, match="the id 'a' occurs twice"):
        read_specs(many)
    many.write_text("- 3\n- 4\n")
    with pytest.raises(InputError, match="entry 1: expected a mapping of fields, got int"):
        read_specs(many)
    many.write_text("a: [")
    with pytest.raises(InputError, match="not readable as YAML"):
        read_specs(many)
    many.write_bytes(b"\x80\x81")
    with pytest.raises(InputError, match="not readable as YAML"):
        read_specs(many)
    with pytest.raises(InputError, match="no classifier file"):
        read_specs(tmp_path / "none.yaml")


def test_the_guide_s_specifications_are_valid():
    """Every YAML block of docs/classifiers.md."""
    guide = (Path(__file__).resolve().parents[2] / "docs" / "classifiers.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert parse_spec(yaml.safe_load(block)).label_emotions[1] == "happiness"

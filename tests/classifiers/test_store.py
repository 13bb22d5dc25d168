"""list, add, get: a local server stands for GitHub."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from click.testing import CliRunner
from morphsym_cli import cli

from morphsym.classifiers import catalogue, load_classifier, store, user_specs
from morphsym.classifiers import registry as registry_module
from morphsym.errors import ClassifierError, InputError, UsageError

from .faces import landmarks, picture
from .test_adapters import Net

CONTENT = bytes(range(256)) * 3000


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class Ranges(SimpleHTTPRequestHandler):
    """Serves a folder; understands Range; counts the bytes it sent; 'cut' stops half-way."""

    sent: list[int] = []  # noqa: RUF012

    def do_GET(self):
        if self.path == "/page":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>quota exceeded</html>")
            return
        if self.path == "/none":
            self.send_error(404)
            return
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://example.org/w.onnx")
            self.end_headers()
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        if self.path == "/cut":
            body = body[: len(body) // 2]
        self.sent.append(len(body))
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    Ranges.sent = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(tmp_path))) as s:
        threading.Thread(target=s.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{s.server_port}"
        s.shutdown()


def entry(home, url, **more):
    text = f"""
id: mine
backend: onnx
labels: [happy, sad]
input_size: 32
weights: {{file: w.onnx, url: "{url}"{"".join(f", {k}: '{v}'" for k, v in more.pop("weights", {}).items())}}}
{"".join(f"{k}: {v}" + chr(10) for k, v in more.items())}"""
    (home / "classifiers").mkdir(parents=True, exist_ok=True)
    (home / "classifiers" / "mine.yaml").write_text(text)


def test_get_resumes_and_checks(home, server):
    right = hashlib.sha256(CONTENT).hexdigest()
    entry(home, f"{server}/cut", sha256=right)
    with pytest.raises(InputError, match=r"mine: .*(broke off at|cannot be fetched).*run it again to continue"):
        store.get_weights("mine")
    part = home / "classifiers" / "mine" / "w.onnx.part"
    assert part.stat().st_size == len(CONTENT) // 2
    entry(home, f"{server}/file", sha256=right)
    seen = []
    path = store.get_weights("mine", progress=lambda have, total: seen.append((have, total)))
    assert path.read_bytes() == CONTENT
    assert Ranges.sent[-1] == len(CONTENT) - len(CONTENT) // 2  # only the rest was sent
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert not part.exists()
    Ranges.sent.clear()
    assert store.get_weights("mine") == path
    assert not Ranges.sent  # nothing is fetched twice


def test_the_command_shows_the_bytes(home, server):
    entry(home, f"{server}/file", sha256=hashlib.sha256(CONTENT).hexdigest())
    done = CliRunner().invoke(cli, ["classifiers", "get", "mine"])
    assert done.exit_code == 0, done.output
    assert "mine: 100%" in done.stderr
    assert "w.onnx" in done.stderr
    assert "100%" not in CliRunner().invoke(cli, ["classifiers", "get", "mine"]).stderr  # nothing to fetch


def test_git_blob_ids_are_git_s(home, server):
    """`git hash-object` of CONTENT, computed as git documents it; and a wrong one is refused and removed."""
    blob = hashlib.sha1(b"blob " + str(len(CONTENT)).encode() + b"\0" + CONTENT).hexdigest()
    entry(home, f"{server}/file", weights={"git_blob": blob})
    path = store.get_weights("mine")
    spec, folder = registry_module.find_spec("mine")
    assert store.weights_state(spec, folder) == ("ready", "")
    path.write_bytes(CONTENT[:-1])  # somebody changes the file: noticed, though no sha256 is published
    assert store.weights_state(spec, folder)[0] == "wrong"
    path.unlink()
    path.with_name("w.onnx.sha256").unlink()
    entry(home, f"{server}/file", weights={"git_blob": "0" * 40})
    with pytest.raises(ClassifierError, match="fetched file has git blob id .*, expected 000000000000; it was removed"):
        store.get_weights("mine")
    assert not list((home / "classifiers" / "mine").iterdir())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("page", "answered a web page, not a file; download it by hand"),
        ("none", "answered status 404"),
        ("elsewhere", "redirected to http://example.org/w.onnx, which is not https"),
    ],
)
def test_get_failures(home, server, path, message):
    entry(home, f"{server}/{path}")
    with pytest.raises(InputError, match=message):
        store.get_weights("mine")
    entry(home, "http://127.0.0.1:9/x")
    with pytest.raises(InputError, match="cannot be fetched"):
        store.get_weights("mine")
    with pytest.raises(InputError, match="--offline was given"):
        store.get_weights("mine", offline=True)


def test_what_needs_a_person_says_what_to_do(home):
    with pytest.raises(
        UsageError, match=r"dan_rafdb: cannot be fetched. Download the RAF-DB checkpoint .*drive.google"
    ):
        store.get_weights("dan_rafdb")
    with pytest.raises(UsageError, match="not a file to fetch .backend transformers"):
        store.get_weights("vit_trpakov")
    assert store.get_weights("mini_xception").name == "mini_xception.npz"


def test_list_and_commercial_safe(home):
    rows = {row.spec.id: row for row in store.list_classifiers()}
    assert set(rows) == set(catalogue())
    assert rows["mini_xception"].state == "bundled"
    assert rows["emonet_8"].state == "missing"
    assert "morphsym classifiers get emonet_8" in rows["emonet_8"].how
    assert "drive.google" in rows["dan_rafdb"].how
    assert rows["vit_trpakov"].state == "remote"
    safe = {row.spec.id for row in store.list_classifiers(commercial_safe=True)}
    assert {"mini_xception", "hsemotion_b2_8", "ferplus"} <= safe
    assert not safe & {"emonet_8", "ddamfn_pp_rafdb", "dan_affectnet8", "poster_v2_rafdb"}
    folder = home / "classifiers" / "ferplus"
    folder.mkdir(parents=True)
    (folder / "emotion-ferplus-8.onnx").write_bytes(b"another file")
    row = next(r for r in store.list_classifiers() if r.spec.id == "ferplus")
    assert row.state == "wrong"
    assert "sha256" in row.how


def test_add_copies_what_is_needed(home, tmp_path):
    torch.manual_seed(0)
    source = tmp_path / "given"
    source.mkdir()
    network = Net().eval()
    torch.save(network.state_dict(), source / "w.pth")
    (source / "code.py").write_text("from tests.classifiers.test_adapters import Net\n")
    (source / "spec.yaml").write_text(
        "id: added\nbackend: torch\nfactory: code:Net\nsource: w.pth\nlabels: [happy, sad]\ninput_size: 32\n"
        "mean: [0.1, 0.2, 0.3]\ncrop: {kind: align, margin: 1.1}\n"
    )
    store.add_specs(source / "spec.yaml")
    assert set(user_specs()) == {"added"}
    c = load_classifier("added@1.2")
    assert c.spec.mean == (0.1, 0.2, 0.3)
    assert c.spec.sha256 == hashlib.sha256((source / "w.pth").read_bytes()).hexdigest()
    assert c.spec.crop.margin == pytest.approx(1.32)
    assert c(picture(), landmarks()).shape == (1, 2)
    with pytest.raises(UsageError, match="'added' exists already .*--replace"):
        store.add_specs(source / "spec.yaml")
    store.add_specs(source / "spec.yaml", replace=True)
    with pytest.raises(UsageError, match="did you mean added"):
        load_classifier("aded")


def test_add_leaves_timm_s_model_name_alone(home, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"weights")
    (tmp_path / "t.yaml").write_text(
        "id: t\nbackend: timm\nsource: resnet18\nweights: {file: w.pth}\nlabels: [happy, sad]\ninput_size: 32\n"
    )
    (spec,) = store.add_specs(tmp_path / "t.yaml")
    assert spec.source == "resnet18"
    assert spec.weights.file == str(tmp_path / "w.pth")
    assert store.weights_state(*registry_module.find_spec("t"))[0] == "ready"


def test_yaml_paths_load_directly(tmp_path):
    (tmp_path / "spec.yaml").write_text(
        "id: direct\nbackend: python\nfactory: code:score\nlabels: [happy, sad]\ninput_size: 32\n"
    )
    (tmp_path / "code.py").write_text("def score(x):\n    return x.mean((2, 3))[:, :2]\n")
    assert load_classifier(str(tmp_path / "spec.yaml")).spec.id == "direct"
    (tmp_path / "two.yaml").write_text(
        "".join(f"- {{id: {i}, backend: onnx, labels: [happy, sad], input_size: 32}}\n" for i in "ab")
    )
    with pytest.raises(UsageError, match="describes 2 classifiers"):
        load_classifier(str(tmp_path / "two.yaml"))


def test_the_users_own_come_first(home):
    (home / "classifiers").mkdir(parents=True)
    (home / "classifiers" / "x.yaml").write_text(
        "id: mini_xception\nbackend: onnx\nsource: x.onnx\nlabels: [happy, sad]\ninput_size: 32\n"
    )
    spec, folder = registry_module.find_spec("mini_xception")
    assert spec.backend == "onnx"
    assert folder == home / "classifiers"

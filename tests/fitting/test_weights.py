"""The user's weights: what is there, what is wrong, and downloads that end half-way."""

from __future__ import annotations

import hashlib
import io
import urllib.error
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from morphsym import weights
from morphsym.errors import InputError, MissingDependencyError, MorphsymError, UsageError

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user's folder, and a registry whose 'mediapipe' is CONTENT and whose 'loose' has no recorded digest."""
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path / "home"))
    digest = hashlib.sha256(CONTENT).hexdigest()
    entry = replace(weights.REGISTRY["mediapipe"], bytes=len(CONTENT), sha256=digest)
    loose = replace(entry, name="loose", file="landmarks/loose.pth", bytes=None, sha256=None, sha256_prefix="abc")
    monkeypatch.setattr(weights, "REGISTRY", {**weights.REGISTRY, "mediapipe": entry, "loose": loose})
    return tmp_path / "home"


class Server:
    """Stands in for the network: ``pieces`` of CONTENT a connection, honouring Range or not."""

    def __init__(self, cut: int | None = None, ranges: bool = True, content: bytes = CONTENT) -> None:
        self.cut, self.ranges, self.content, self.asked = cut, ranges, content, []

    def open(self, request: Any, timeout: float) -> Any:
        self.asked.append((request.full_url, request.get_header("Range")))
        given = request.get_header("Range")
        start = int(given.removeprefix("bytes=").rstrip("-")) if given and self.ranges else 0
        rest = self.content[start:]
        body = io.BytesIO(rest if self.cut is None else rest[: self.cut])
        body.status = 206 if given and self.ranges else 200  # type: ignore[attr-defined]
        body.headers = {"Content-Length": str(len(rest))}  # type: ignore[attr-defined]
        return body


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(server: Server) -> Server:
        monkeypatch.setattr("urllib.request.build_opener", lambda *_: server)
        return server

    return use


def test_registry_is_whole() -> None:
    for name, entry in weights.REGISTRY.items():
        assert entry.name == name
        assert all(u.startswith("https://") for u in (*entry.urls, entry.page))
        assert entry.licence
        assert entry.purpose
        assert entry.sha256 is None or entry.sha256.startswith(entry.sha256_prefix)
        assert entry.sha256 or entry.sha256_prefix
        assert not Path(entry.file).is_absolute()


@pytest.mark.shared
def test_recorded_digests_are_those_of_the_real_files(shared_data: Path) -> None:
    sums = dict(line.split()[::-1] for line in (shared_data / "SHA256SUMS").read_text().splitlines())
    for name, file in (("mediapipe", "landmarks/face_landmarker.task"), ("ict", "face_models/ict_facekit.npz")):
        assert weights.REGISTRY[name].sha256 == sums[f"./{file}"]
        assert weights.REGISTRY[name].bytes == (shared_data / file).stat().st_size


def test_face_alignment_urls_are_those_of_the_package() -> None:
    api = pytest.importorskip("face_alignment.api", reason="the extra morphsym[face-alignment] is not installed")
    from face_alignment.detection.sfd import sfd_detector

    assert weights.REGISTRY["face-alignment-2d"].urls == (api.models_urls["2DFAN-4"],)
    assert weights.REGISTRY["face-alignment-3d"].urls == (api.models_urls["3DFAN-4"],)
    assert weights.REGISTRY["face-alignment-s3fd"].urls == (sfd_detector.models_urls["s3fd"],)


def test_missing_is_said_with_the_command(home: Path) -> None:
    assert {s.state for s in weights.list_weights()} == {"missing"}
    with pytest.raises(
        MissingDependencyError, match=r"run `morphsym weights get mediapipe`, or download it from https"
    ):
        weights.path("mediapipe")
    with pytest.raises(MissingDependencyError, match=r"--offline forbids.*`morphsym weights add mediapipe FILE`"):
        weights.path("mediapipe", offline=True)
    with pytest.raises(
        MissingDependencyError, match=r"download it from https://github.com.*`morphsym weights add ict FILE`"
    ):
        weights.get("ict")
    with pytest.raises(UsageError, match="unknown weights 'x'; known: mediapipe"):
        weights.path("x")
    assert not home.exists()


def test_add_checks_the_digest(home: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(CONTENT)
    bad.write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match="expected sha256 .*, found") as e:
        weights.add("mediapipe", bad, force=True)  # a recorded digest is never overridden
    assert weights.REGISTRY["mediapipe"].sha256 in str(e.value)
    assert hashlib.sha256(CONTENT[:-1]).hexdigest() in str(e.value)
    with pytest.raises(InputError, match="no file"):
        weights.add("mediapipe", tmp_path / "none")
    where = weights.add("mediapipe", good)
    assert where.read_bytes() == CONTENT
    assert weights.path("mediapipe") == where
    assert [p.name for p in where.parent.iterdir()] == [where.name]
    with pytest.raises(InputError, match="begins with abc.*--force"):
        weights.add("loose", good)
    assert weights.add("loose", good, force=True).read_bytes() == CONTENT


def test_a_damaged_file_is_noticed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(CONTENT)
    where = weights.add("mediapipe", tmp_path / "good")
    where.write_bytes(CONTENT[:50])
    assert next(s for s in weights.list_weights() if s.weight.name == "mediapipe").state == "damaged"
    with pytest.raises(MissingDependencyError, match="damaged: expected 10240 bytes, found 50"):
        weights.path("mediapipe")


def test_download(home: Path, serve: Any) -> None:
    server = serve(Server())
    where = weights.get("mediapipe", progress=False)
    assert where.read_bytes() == CONTENT
    assert weights.get("mediapipe") == where
    assert len(server.asked) == 1  # the second time it was there


@pytest.mark.parametrize("ranges", [True, False])
def test_download_goes_on_where_it_was_cut(home: Path, serve: Any, ranges: bool) -> None:
    serve(Server(cut=1000))
    said = r"after 1000 of 10240 bytes.*by hand from https.*`morphsym weights add mediapipe FILE`"
    with pytest.raises(MorphsymError, match=said):
        weights.get("mediapipe", progress=False)
    with pytest.raises(MissingDependencyError):
        weights.path("mediapipe")
    server = serve(Server(ranges=ranges))
    assert weights.get("mediapipe", progress=False).read_bytes() == CONTENT
    assert server.asked[0][1] == "bytes=1000-"


def test_a_wrong_download_is_not_kept(home: Path, serve: Any) -> None:
    serve(Server(content=CONTENT[::-1]))
    with pytest.raises(MorphsymError, match="expected sha256"):
        weights.get("mediapipe", progress=False)
    assert not list(home.rglob("*.task*"))


def test_offline_never_tries(home: Path, serve: Any) -> None:
    server = serve(Server())
    with pytest.raises(MissingDependencyError, match="--offline forbids"):
        weights.get("mediapipe", offline=True)
    assert server.asked == []


def test_redirects_away_from_https_are_refused() -> None:
    with pytest.raises(urllib.error.URLError, match="not https"):
        weights._HttpsOnly().redirect_request(None, None, 302, "", {}, "http://example.com/x")

"""Weight files that morphsym does not bundle: where each comes from, where it lies, and whether it is the right one.

Files live in :func:`morphsym.resources.home`. They come by download (``morphsym weights get NAME``), only when asked, over
https, with the size and the sha256 checked; or by hand (``morphsym weights add NAME FILE``).
"""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from . import resources
from .errors import InputError, MissingDependencyError, MorphsymError, UsageError
from .experiment.atomic import ensure_folder, writing

TIMEOUT_S = 30.0
PIECE = 1 << 20


@dataclass(frozen=True)
class WeightFile:
    """One file of weights that the user's cache may hold."""

    name: str  # what `morphsym weights` calls it
    file: str  # path below resources.home()
    urls: tuple[str, ...]  # https, tried in turn; empty: only by hand
    page: str  # where a person finds it
    bytes: int | None  # size, where it is known
    sha256: str | None  # hex digest; None: not recorded, whatever is added is taken
    sha256_prefix: str  # first digits of the digest as its publisher states them (in the file's name); '' if unknown
    licence: str
    purpose: str


_MEDIAPIPE = "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16"
_FAN = "https://www.adrianbulat.com/downloads/python-fan"
_FAN_PAGE = "https://github.com/1adrianb/face-alignment"

REGISTRY: Mapping[str, WeightFile] = {
    w.name: w
    for w in (
        WeightFile(
            "mediapipe", "landmarks/face_landmarker.task", (f"{_MEDIAPIPE}/1/face_landmarker.task",),
            "https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker#models",
            3758596, "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff", "64184e22",
            "Apache-2.0", "the default landmark detector: 478 points and 52 blendshapes",
        ),
        WeightFile(
            "face-alignment-s3fd", "landmarks/s3fd-619a316812.pth", (f"{_FAN}/s3fd-619a316812.pth",), _FAN_PAGE,
            None, None, "619a316812", "BSD-3-Clause", "face boxes for the detector face-alignment",
        ),
        WeightFile(
            "face-alignment-2d", "landmarks/2DFAN4-11f355bf06.pth.tar", (f"{_FAN}/2DFAN4-11f355bf06.pth.tar",),
            _FAN_PAGE, None, None, "11f355bf06", "BSD-3-Clause", "68 points on the visible contour (face-alignment)",
        ),
        WeightFile(
            "face-alignment-3d", "landmarks/3DFAN4-7835d9f11d.pth.tar", (f"{_FAN}/3DFAN4-7835d9f11d.pth.tar",),
            _FAN_PAGE, None, None, "7835d9f11d", "BSD-3-Clause", "68 points of the 3D face (face-alignment-3d)",
        ),
        WeightFile(
            "ict", "faces/ict_facekit.npz", (), "https://github.com/USC-ICT/ICT-FaceKit",
            16799115, "6b50e59c6680e75260cd31d49a8c54d6131c0156b7814c7f715e8afbbcc84999", "",
            "MIT", "the face model ICT-FaceKit (--model ict)",
        ),
    )
}  # fmt: skip
"""Every file, by name."""


@dataclass(frozen=True)
class WeightStatus:
    """One line of ``morphsym weights list``. ``state``: 'present', 'missing' or 'damaged' (its size is wrong)."""

    weight: WeightFile
    path: Path
    state: str


def _entry(name: str) -> WeightFile:
    try:
        return REGISTRY[name]
    except KeyError:
        raise UsageError(f"unknown weights {name!r}; known: {', '.join(REGISTRY)}") from None


def _location(entry: WeightFile) -> Path:
    return resources.home() / entry.file


def list_weights() -> list[WeightStatus]:
    """Every file and whether it is there. Only sizes are looked at; ``add`` and ``get`` check the digest."""
    rows = []
    for entry in REGISTRY.values():
        path = _location(entry)
        state = "missing"
        if path.is_file():
            size = path.stat().st_size
            state = "present" if size and entry.bytes in (None, size) else "damaged"
        rows.append(WeightStatus(entry, path, state))
    return rows


def instructions(name: str, offline: bool = False) -> str:
    """What to do to get ``name``, in one sentence."""
    entry = _entry(name)
    by_hand = (
        f"download it from {entry.urls[0] if entry.urls else entry.page} and run `morphsym weights add {name} FILE`"
    )
    if not entry.urls:
        return by_hand
    if offline:
        return f"--offline forbids downloading; on a machine with a network {by_hand}"
    return f"run `morphsym weights get {name}`, or {by_hand}"


def path(name: str, offline: bool = False) -> Path:
    """Where the weights ``name`` are. Never downloads; raises :class:`MissingDependencyError` that says how to get them."""
    entry = _entry(name)
    found = _location(entry)
    if not found.is_file():
        raise MissingDependencyError(
            f"the weights {name!r} ({entry.purpose}) are not in {resources.home()}; {instructions(name, offline)}"
        )
    size = found.stat().st_size
    if size == 0 or entry.bytes not in (None, size):
        raise MissingDependencyError(
            f"the weights {name!r} at {found} are damaged: expected {entry.bytes or 'some'} bytes, found {size}; "
            f"{instructions(name, offline)}"
        )
    return found


def add(name: str, file: str | Path, force: bool = False) -> Path:
    """Copy ``file`` into the cache as the weights ``name``; returns where it is.

    The digest must be the recorded one. ``force`` accepts a file whose publisher's digest prefix does not fit, and
    only where no full digest is recorded; it never overrides a recorded sha256.
    """
    entry = _entry(name)
    source = Path(file).expanduser()
    if not source.is_file():
        raise InputError(f"cannot add the weights {name!r}: no file {source}; give the path of {Path(entry.file).name}")
    _check(entry, source, resources.sha256(source), force)
    target = _location(entry)
    ensure_folder(target.parent)
    with writing(target) as aside:
        shutil.copyfile(source, aside)
        # What was copied is what was checked: the source may have changed in between.
        _check(entry, aside, resources.sha256(aside), force)
    return target


def _check(entry: WeightFile, file: Path, digest: str, force: bool) -> None:
    if entry.sha256 is not None:
        if digest != entry.sha256:
            raise InputError(
                f"{file} is not the weights {entry.name!r}: expected sha256 {entry.sha256}, found {digest}; "
                f"download {Path(entry.file).name} again from {entry.urls[0] if entry.urls else entry.page}"
            )
    elif not digest.startswith(entry.sha256_prefix) and not force:
        raise InputError(
            f"{file} does not look like the weights {entry.name!r}: expected a sha256 that begins with "
            f"{entry.sha256_prefix}, found {digest}; download {Path(entry.file).name} again, or use --force"
        )


def get(name: str, offline: bool = False, progress: bool = True) -> Path:
    """Download the weights ``name`` if they are missing or damaged; returns where they are.

    A broken download leaves ``<file>.part`` and the next call goes on from there. Nothing is kept under the final name
    unless its size and sha256 are right. Raises :class:`MorphsymError` with the way to do it by hand.
    """
    entry = _entry(name)
    try:
        return path(name)
    except MissingDependencyError:
        pass
    if not entry.urls:
        raise MissingDependencyError(f"the weights {name!r} cannot be downloaded by morphsym; {instructions(name)}")
    if offline:
        raise MissingDependencyError(f"cannot download the weights {name!r}: {instructions(name, offline=True)}")
    target = _location(entry)
    ensure_folder(target.parent)
    part = target.with_name(target.name + ".part")
    problems = []
    for url in entry.urls:
        if not url.startswith("https://"):
            raise MorphsymError(f"refusing to download {name!r} from {url}: only https is allowed")
        try:
            _fetch(entry, url, part, progress)
            _check(entry, part, resources.sha256(part), force=False)
        except InputError as e:
            part.unlink(missing_ok=True)  # the wrong file: nothing to go on from
            problems.append(str(e))
            continue
        except (OSError, urllib.error.URLError) as e:
            problems.append(f"{url}: {getattr(e, 'reason', None) or e}")
            continue
        part.chmod(0o644)
        part.replace(target)
        return target
    raise MorphsymError(
        f"could not download the weights {name!r} ({'; '.join(problems)}); "
        f"download {Path(entry.file).name} by hand from {entry.urls[0]} and run `morphsym weights add {name} FILE`"
    )


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"redirected to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(entry: WeightFile, url: str, part: Path, progress: bool) -> None:
    """Append the rest of ``url`` to ``part``; a server that does not resume sends it from the start."""
    have = part.stat().st_size if part.is_file() else 0
    if entry.bytes is not None and have == entry.bytes:
        return
    if entry.bytes is not None and have > entry.bytes:
        part.unlink()
        have = 0
    request = urllib.request.Request(url, headers={"User-Agent": "morphsym", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    opener = urllib.request.build_opener(_HttpsOnly)
    with opener.open(request, timeout=TIMEOUT_S) as response:
        resumed = response.status == 206
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else entry.bytes
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=entry.name, disable=not progress)
        with open(part, "ab" if resumed else "wb") as f, bar:
            while piece := response.read(PIECE):
                f.write(piece)
                bar.update(len(piece))
    size = part.stat().st_size
    wanted = entry.bytes if entry.bytes is not None else total
    if wanted is not None and size < wanted:
        raise OSError(f"the connection ended after {size} of {wanted} bytes; run it again to go on from there")
    if wanted is not None and size > wanted:
        raise InputError(f"{url} sent {size} bytes, expected {wanted}")

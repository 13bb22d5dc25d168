"""What ``morphsym classifiers list|show|add|get`` do: the catalogue, the user's own entries, and weights on disk."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..errors import ClassifierError, InputError, MorphsymError, UsageError
from ..resources import sha256
from .adapters.files import has_file, how_to_get, noted_sha256, weights_folder, weights_path
from .registry import catalogue, find_spec, trust_marker, user_folder, user_specs
from .spec import ClassifierSpec, is_secure, read_specs

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes there will be (None: unknown)."""


@dataclass(frozen=True)
class Listed:
    """One line of ``classifiers list``."""

    spec: ClassifierSpec
    state: str  # bundled, ready, missing, wrong (another file), remote (hub or endpoint), code (a Python callable)
    own: bool  # from the user's folder, not from the catalogue
    how: str  # what to do where it is missing or wrong, else ''


def list_classifiers(commercial_safe: bool = False) -> list[Listed]:
    """Everything known: the user's own first, then the catalogue.

    ``commercial_safe`` keeps only those whose weights' licence is known to allow commercial use.
    """
    own = user_specs()
    found: list[tuple[ClassifierSpec, Path | None]] = [(spec, path.parent) for spec, path in own.values()]
    found += [(spec, None) for i, spec in catalogue().items() if i not in own]
    out = []
    for spec, folder in found:
        if spec.commercial_use or not commercial_safe:
            state, how = weights_state(spec, folder)
            out.append(Listed(spec, state, folder is not None, how))
    return out


def weights_state(spec: ClassifierSpec, folder: Path | None = None) -> tuple[str, str]:
    """(state, what to do) of a classifier's weights; see :class:`Listed`."""
    if spec.source.startswith("asset:"):
        return "bundled", ""
    if spec.backend == "python":
        return "code", ""
    if not has_file(spec):
        return "remote", ""
    try:
        weights_path(spec, folder)
    except ClassifierError as error:
        return "wrong", str(error)
    except MorphsymError:
        return "missing", how_to_get(spec)
    return "ready", ""


def add_specs(path: str | Path, replace: bool = False, trust: bool = False) -> list[ClassifierSpec]:
    """Copy the specifications in the YAML file ``path`` into the user's folder, one file each, checked.

    A relative ``source`` that exists beside the file is made absolute, so that it is found again; the module of a
    ``factory`` that lies beside it is copied. ``trust`` allows their pickles from now on; adding without it takes that
    back. :class:`UsageError` where an id exists already and ``replace`` is not set.
    """
    path = Path(path)
    specs = read_specs(path)
    own = user_specs()
    for spec in specs:
        if spec.id in own and not replace:
            raise UsageError(
                f"the classifier {spec.id!r} exists already ({own[spec.id][1]}); give --replace to replace it"
            )
    user_folder().mkdir(parents=True, exist_ok=True)
    added = []
    for spec in specs:
        spec = _absolute(spec, path.parent)
        if spec.factory:
            code = Path(spec.factory.partition(":")[0].replace(".", "/") + ".py")
            if (path.parent / code).is_file():
                shutil.copyfile(path.parent / code, _below(user_folder(), code))
        target = user_folder() / f"{spec.id}.yaml"
        text = yaml.safe_dump(spec.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
        _write(target, text.encode())
        marker = trust_marker(spec.id)
        if trust:
            _write(marker, b"The user trusts whoever made this classifier: its pickles may be run.\n")
        else:
            marker.unlink(missing_ok=True)
        added.append(spec)
    return added


def _absolute(spec: ClassifierSpec, folder: Path) -> ClassifierSpec:
    """``spec`` with the file that lies in ``folder`` named absolutely. timm's ``source`` is a model name: left alone."""
    if spec.backend == "timm":
        beside = folder / spec.weights.file if spec.weights.file else None
        if beside is None or not beside.exists():
            return spec
        weights = spec.weights.model_copy(update={"file": str(beside.resolve())})
        return spec.model_copy(update={"weights": weights})
    for beside in (folder / n for n in (spec.source, spec.weights.file) if n):
        if beside.exists():
            return spec.model_copy(update={"source": str(beside.resolve())})
    return spec


def _below(folder: Path, relative: Path) -> Path:
    target = folder / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _write(path: Path, data: bytes) -> None:
    aside = path.with_name(path.name + ".tmp")
    with open(aside, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(aside, path)


def get_weights(name: str, progress: Progress | None = None, timeout: float = 60.0, offline: bool = False) -> Path:
    """Fetch the weights of ``name`` into ``<home>/classifiers/<id>/``, checked; the path of the file.

    What is there already and right is kept. An interrupted download continues where it was. :class:`UsageError` where
    there is nothing to fetch (with what a person must do), :class:`InputError` where the network fails,
    :class:`ClassifierError` where what came is not the stated file (it is removed).
    """
    spec, folder = find_spec(name)
    state, _ = weights_state(spec, folder)
    if state in ("bundled", "ready"):
        return weights_path(spec, folder)
    if state in ("remote", "code"):
        raise UsageError(f"classifier {spec.id}: its weights are not a file to fetch (backend {spec.backend})")
    if not spec.weights.url or not spec.weights.file:
        where = weights_folder(spec) / (spec.weights.file or Path(spec.source).name)
        raise UsageError(f"classifier {spec.id}: cannot be fetched. {how_to_get(spec)} There: {where}")
    if offline:
        raise InputError(f"classifier {spec.id}: needs {spec.weights.url}, but --offline was given")
    target = _below(weights_folder(spec), Path(spec.weights.file))
    part = target.with_name(target.name + ".part")
    _download(spec.weights.url, part, progress, timeout, f"classifier {spec.id}")
    try:
        _verify(part, spec)
    except ClassifierError:
        part.unlink(missing_ok=True)
        raise
    os.replace(part, target)
    if spec.sha256 is None:  # later changes of the file are noticed all the same
        _write(noted_sha256(target), sha256(target).encode())
    return target


class _Secure(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if not is_secure(newurl):
            raise urllib.error.URLError(f"redirected to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Secure)


def _download(url: str, part: Path, progress: Progress | None, timeout: float, who: str) -> None:
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "morphsym"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with _OPENER.open(request, timeout=timeout) as response:
            if response.headers.get_content_type() == "text/html":
                raise InputError(f"{who}: {url} answered a web page, not a file; download it by hand")
            if have and response.status != 206:
                have = 0  # the server began anew
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            with open(part, "ab" if have else "wb") as f:
                while piece := response.read(2**18):
                    f.write(piece)
                    have += len(piece)
                    if progress:
                        progress(have, total)
                f.flush()
                os.fsync(f.fileno())
        if total is not None and have != total:
            raise InputError(f"{who}: the download broke off at {have} of {total} bytes; run it again to continue")
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return  # all of it is there already; the check decides
        raise InputError(f"{who}: {url} answered status {error.code} ({error.reason})") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{who}: {url} cannot be fetched ({reason}); run it again to continue") from None


def _verify(path: Path, spec: ClassifierSpec) -> None:
    """Against sha256, else git's blob id, else the size; :class:`ClassifierError` for another file."""
    data = path.read_bytes()
    checks = [
        ("sha256", spec.sha256, hashlib.sha256(data).hexdigest()),
        ("git blob id", spec.weights.git_blob, hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()),
        ("size", spec.weights.bytes, len(data)),
    ]
    for what, expected, got in checks:
        if expected is not None:
            if expected != got:
                raise ClassifierError(
                    f"classifier {spec.id}: the fetched file has {what} {str(got)[:12]}, expected {str(expected)[:12]}; "
                    "it was removed"
                )
            return

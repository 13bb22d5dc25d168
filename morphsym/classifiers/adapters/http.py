"""Backend ``http``: a classifier behind a URL.

Request: POST, JSON ``{"id", "shape": [B, C, H, W], "dtype": "float32", "data": base64 of the little-endian bytes}``,
the preprocessed batch. Answer: status 200, JSON; a list of B rows of scores, or an object of which ``output.select`` picks
them (``logits`` by default), or ``{"error": "no_face"}`` where its own detector found none.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ClassifierError
from ..base import Network, NoFaceFound
from ..spec import ClassifierSpec

LIMIT = 64 * 2**20
"""Bytes of an answer; more is refused."""


class HttpNetwork:
    """Sends batches. Every failure is a :class:`ClassifierError` that names the classifier and the URL."""

    def __init__(self, spec: ClassifierSpec) -> None:
        self.spec = spec

    def __call__(self, x: Tensor) -> Any:
        who = f"classifier {self.spec.id}: {self.spec.source}"
        array = np.ascontiguousarray(x.cpu().numpy(), dtype="<f4")
        body = json.dumps(
            {
                "id": self.spec.id.partition("@")[0],
                "shape": list(array.shape),
                "dtype": "float32",
                "data": base64.b64encode(array.tobytes()).decode(),
            }
        ).encode()
        answer = self._post(body, who)
        if isinstance(answer, dict) and "error" in answer:
            if answer["error"] == "no_face":
                raise NoFaceFound(self.spec.id)
            raise ClassifierError(f"{who} answered the error {str(answer['error'])[:200]!r}")
        if isinstance(answer, dict) and not self.spec.output.select:
            if "logits" not in answer:
                raise ClassifierError(f"{who} answered an object with {list(answer)[:8]}; pick one with output.select")
            answer = answer["logits"]
        return _tensors(answer, who)

    def _post(self, body: bytes, who: str) -> Any:
        limit = self.spec.timeout
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "morphsym"}
        request = urllib.request.Request(self.spec.source, body, headers, method="POST")
        deadline = time.monotonic() + limit
        try:
            with urllib.request.urlopen(request, timeout=limit) as response:
                kind = response.headers.get_content_type()
                status = response.status
                raw = bytearray()
                while piece := response.read1(2**16):  # read() would wait for all of it, however slowly it trickles
                    raw += piece
                    if len(raw) > LIMIT:
                        raise ClassifierError(f"{who} answered more than {LIMIT // 2**20} MiB")
                    if time.monotonic() > deadline:
                        raise TimeoutError
        except urllib.error.HTTPError as error:
            raise ClassifierError(f"{who} answered status {error.code} ({error.reason})") from None
        except (TimeoutError, urllib.error.URLError, OSError, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, TimeoutError):
                raise ClassifierError(f"{who} did not answer within {limit:g} s (timeout)") from None
            raise ClassifierError(f"{who} is out of reach ({reason})") from None
        if status != 200:
            raise ClassifierError(f"{who} answered status {status}, expected 200")
        try:
            return json.loads(raw)
        except ValueError:
            start = bytes(raw[:40]).decode("utf-8", "replace")
            raise ClassifierError(f"{who} answered {kind}, not JSON (it begins {start!r})") from None


def _tensors(answer: Any, who: str) -> Any:
    if isinstance(answer, dict):
        return {k: _tensors(v, who) if isinstance(v, (list, dict)) else v for k, v in answer.items()}
    try:
        array = np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError):
        raise ClassifierError(f"{who} answered something that is not an array of numbers") from None
    return torch.from_numpy(array)


def load(spec: ClassifierSpec, device: torch.device, folder: Path | None, trust: bool) -> Network:
    """The endpoint of an ``http`` spec. Nothing is sent yet."""
    return HttpNetwork(spec)

"""A hostile pickle cannot run code: payloads of every kind that calls something are refused, and leave no trace."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from morphsym.errors import ModelError
from morphsym.faces import load_model
from morphsym.faces.loaders.pickles import loads, read_pickle


class _Call:
    def __init__(self, function: object, *args: object) -> None:
        self.function, self.arguments = function, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", ["bare", "in a dict", "as state"])
def test_payloads_are_not_run(tmp_path: Path, protocol: int, wrap: str) -> None:
    mark = tmp_path / "owned"
    path = tmp_path / "flame.pkl"
    for payload in (
        _Call(os.system, f"touch {mark}"),
        _Call(subprocess.call, ["touch", str(mark)]),
        _Call(eval, f"open({str(mark)!r}, 'w')"),
        _Call(exec, f"open({str(mark)!r}, 'w')"),
        _Call(open, str(mark), "w"),
        _Call(getattr, "x", "upper"),
        _Call(np.load, str(mark)),
        _Call(np.save, str(mark), [1]),
        _Call(pickle.loads, b"cos\nsystem\n(S'true'\ntR."),
    ):
        value: object = payload if wrap == "bare" else {"v_template": np.zeros(3), "f": [payload]}
        if wrap == "as state":
            value = collections.OrderedDict(a=payload)
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        pickle.dumps(value)  # it is a real pickle
        with pytest.raises(ModelError, match="refused: the pickle asks for .*; a face model holds numpy") as e:
            read_pickle(path)
        assert str(path) in str(e.value)
        with pytest.raises(ModelError, match="refused"):
            load_model(path)
        assert not mark.exists()
        assert not mark.with_suffix(".npy").exists()


def test_the_payload_is_real(tmp_path: Path) -> None:
    """The control: the ordinary reader does run it, or the test above could not fail."""
    mark = tmp_path / "owned"
    pickle.loads(pickle.dumps(_Call(os.system, f"touch {mark}")))  # noqa: S301
    assert mark.exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL, REDUCE
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"\x80\x02cos\nsystem\nU\x04true\x85\x81.",  # NEWOBJ
        b"\x80\x04cnumpy\nndarray\n)}\x92.",  # NEWOBJ_EX
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncos\nsystem\nK\x00\x85U\x01b\x87R.",  # a function as the class
        b"\x80\x02cnumpy.f2py.crackfortran\nmyeval\nU\x041+11\x85R.",  # numpy's own evals
        b"\x80\x02cnumpy.testing._private.utils\nrunstring\nU\x01a}\x86R.",
        b"\x80\x02cscipy.sparse\nload_npz\nU\x01a\x85R.",
        b"\x80\x02cchumpy.utils\nos\n.",
        b"\x80\x02c_codecs\nlookup\nU\x01a\x85R.",
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__reduce__\x93.",  # dotted names
        b"Pid\n.",  # PERSID
        b"\x82\x01.",  # EXT1
        b"\x80\x02cnumpy\nndarray\n}U\x05shapeK\x01sb.",  # BUILD on a class
    ],
)
def test_opcodes_that_call(raw: bytes) -> None:
    with pytest.raises(ModelError, match="refused|not a readable pickle"):
        loads(raw, "x.pkl")


def test_crafted_arrays_cannot_reach_memory() -> None:
    """numpy's own dtype would take flags from the file and read bytes as object pointers; ours takes the letter alone."""
    array = np.zeros(4)
    raw = pickle.dumps(array, protocol=2)
    assert np.array_equal(loads(raw, "x"), array)
    for a, b in ((b"f8", b"V8"), (b"f8", b"O8"), (b"f8", b"M8"), (b"K\x04\x85", b"K\x05\x85"), (b"f8", b"f4")):
        assert a in raw, a
        with pytest.raises(ModelError):
            loads(raw.replace(a, b), "x")


def test_crafted_sparse_matrices() -> None:
    good = scipy.sparse.csc_matrix(np.eye(4))
    np.testing.assert_array_equal(loads(pickle.dumps(good), "x"), np.eye(4))
    for field, value in (("indices", [9, 1, 2, 3]), ("indices", [-1, 1, 2, 3]), ("indptr", [0, 1, 2, 3, 400])):
        bad = good.copy()
        setattr(bad, field, np.array(value, dtype=np.int32))
        with pytest.raises(ModelError, match="damaged sparse matrix"):
            loads(pickle.dumps(bad), "x")
    huge = good.copy()
    huge._shape = (10**9, 10**9)
    with pytest.raises(ModelError, match="impossible shape"):
        loads(pickle.dumps(huge), "x")


def test_damage_is_an_error_and_sharing_does_not_explode(tmp_path: Path) -> None:
    raw = pickle.dumps({"a": np.arange(5.0), "b": scipy.sparse.csr_matrix(np.eye(3))}, protocol=2)
    for cut in range(0, len(raw) - 1, 7):
        with pytest.raises(ModelError):
            loads(raw[:cut], "x.pkl")
    rng = np.random.default_rng(3)
    for _ in range(300):  # random damage never gives anything but a value or a ModelError
        broken = bytearray(raw)
        broken[rng.integers(len(raw))] = rng.integers(256)
        with contextlib.suppress(ModelError):
            loads(bytes(broken), "x.pkl")
    laughs: list[object] = ["ha"]
    for _ in range(40):
        laughs = [laughs, laughs]
    assert loads(pickle.dumps(laughs), "x") is not None
    deep: list[object] = []
    for _ in range(400):
        deep = [deep]
    with pytest.raises(ModelError, match="too deep|nested"):
        loads(pickle.dumps(deep), "x")
    with pytest.raises(ModelError, match="cannot be read"):
        read_pickle(tmp_path / "gone.pkl")
    assert struct.calcsize("P") == 8

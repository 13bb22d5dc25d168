"""Reading pickled face models without running what is in them.

A pickle is a program: the ordinary reader calls any function that the file names. This reader knows the data layout
of numpy arrays and dtypes, scipy.sparse matrices and chumpy arrays, and nothing else; every other name is refused.
Not even numpy's own classes are handed to the file: a crafted dtype could make numpy read raw bytes as object
pointers. The file fills plain records, and the arrays are built from those afterwards, with every size checked."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse

from ...errors import ModelError

_NUMBERS = "biufSU"
_MAX_BYTES = 4 << 30
_SPARSE = ("csc_matrix", "csr_matrix", "coo_matrix", "csc_array", "csr_array", "coo_array")
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")


class _Refused(pickle.UnpicklingError):
    """A name that no face model needs."""


def read_pickle(path: Path) -> Any:
    """What is pickled in ``path``: dicts, lists, numbers, text, numpy arrays (sparse matrices and chumpy made dense).

    Raises :class:`ModelError` naming the file when it is no pickle, is damaged, or names anything but numpy,
    scipy.sparse and chumpy data. Nothing in the file is ever called."""
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise ModelError(f"{path}: cannot be read ({e.strerror or e})") from e
    return loads(raw, str(path))


def loads(raw: bytes, what: str) -> Any:
    """:func:`read_pickle` of bytes; ``what`` is for messages."""
    try:
        return _Builder().plain(_Unpickler(io.BytesIO(raw)).load(), 0)
    except ModelError as e:
        raise ModelError(f"{what}: {e}") from e
    except _Refused as e:
        raise ModelError(
            f"{what}: refused: the pickle asks for {e}; a face model holds numpy, scipy.sparse and chumpy data only"
        ) from e
    except (RecursionError, MemoryError) as e:
        raise ModelError(f"{what}: not a readable pickle (too deep or too large)") from e
    except Exception as e:  # a damaged pickle can raise nearly anything; nothing of it was run
        raise ModelError(f"{what}: not a readable pickle ({type(e).__name__}: {e})") from e


# -- what the file may fill: records without behaviour ----------------------------------------------------------------
class _Record:
    """Filled by the file through BUILD, read by :class:`_Builder`. Made anew for every file, so nothing can be left in it."""

    kind = ""

    def __init__(self, *args: Any) -> None:
        self.args, self.state = args, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle._Unpickler):  # the Python one: its BUILD and NEWOBJ go through the overrides below
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")
        self._known: dict[tuple[str, str], type[_Record]] = {}

    def _record(self, kind: str) -> type[_Record]:
        return type(f"_{kind}", (_Record,), {"kind": kind})

    def find_class(self, module: str, name: str) -> Any:
        kind = _kind_of(module, name)
        if kind is None:
            raise _Refused(f"{module}.{name}")
        if (module, name) not in self._known:
            self._known[module, name] = self._record(kind)
        return self._known[module, name]

    def get_extension(self, code: int) -> Any:
        raise _Refused(f"extension code {code}")

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent object")

    # the four ways in which a pickle calls something: all of them may only make a record
    def load_reduce(self) -> None:
        args = self.stack.pop()  # type: ignore[attr-defined]
        self.stack[-1] = self._make(self.stack[-1], args)  # type: ignore[attr-defined]

    def load_newobj(self) -> None:
        args = self.stack.pop()  # type: ignore[attr-defined]
        self.stack[-1] = self._make(self.stack[-1], args)  # type: ignore[attr-defined]

    def load_newobj_ex(self) -> None:
        raise _Refused("an object with keyword arguments")

    def _instantiate(self, cls: Any, args: Any) -> None:
        self.append(self._make(cls, tuple(args)))  # type: ignore[attr-defined]

    def load_build(self) -> None:
        state = self.stack.pop()  # type: ignore[attr-defined]
        target = self.stack[-1]  # type: ignore[attr-defined]
        if not isinstance(target, _Record):
            raise _Refused(f"setting the state of a {type(target).__name__}")
        target.state = state

    def _make(self, cls: Any, args: Any) -> _Record:
        if not (isinstance(cls, type) and issubclass(cls, _Record)) or not isinstance(args, tuple):
            raise _Refused("a call of something that is no class")
        if cls.kind == "reconstruct_object" and args and isinstance(args[0], type) and issubclass(args[0], _Record):
            return args[0]()  # protocol 0 and 1: copyreg._reconstructor(cls, object, None)
        return cls(*args)

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build


def _kind_of(module: str, name: str) -> str | None:
    if module in _NUMPY and name in ("_reconstruct", "_frombuffer", "scalar"):
        return {"_reconstruct": "array", "_frombuffer": "buffer", "scalar": "scalar"}[name]
    if module == "numpy" and name in ("ndarray", "dtype"):
        return {"ndarray": "ndarray", "dtype": "dtype"}[name]
    if (module == "scipy.sparse" or module.startswith("scipy.sparse.")) and name in _SPARSE:
        return f"sparse_{name[:3]}"
    if module in ("chumpy", "chumpy.ch") and name == "Ch":
        return "chumpy"
    if module in ("chumpy.reordering", "chumpy.ch") and name in ("Select", "Reorder"):
        return "chumpy"
    if (module, name) == ("_codecs", "encode"):
        return "bytes"
    if (module, name) in (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")):
        return "reconstruct_object"
    if (module, name) in (("__builtin__", "object"), ("builtins", "object")):
        return "object"
    return None


# -- from records to arrays ---------------------------------------------------------------------------------------------
class _Builder:
    """Turns what was read into plain values; each object once, or shared parts would multiply."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, Any]] = {}  # the object is kept, so its id stays its own

    def plain(self, value: Any, depth: int) -> Any:
        if id(value) in self._done:
            return self._done[id(value)][1]
        if depth > 50:
            raise ModelError("is nested too deeply")
        found = self._built(value, depth + 1)
        if isinstance(value, (dict, list, tuple, _Record)):
            self._done[id(value)] = (value, found)
        return found

    def _built(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {self.plain(k, depth): self.plain(v, depth) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.plain(v, depth) for v in value)
        if isinstance(value, type) and issubclass(value, _Record):
            return None
        if not isinstance(value, _Record):
            return value
        kind, args = value.kind, value.args
        if kind == "bytes":
            if len(args) != 2 or args[1] not in ("latin1", "latin-1") or not isinstance(args[0], str):
                raise ModelError("bytes in an unknown encoding")
            return args[0].encode("latin1")
        if kind == "array":
            return self._array(value.state, depth)
        if kind == "buffer":  # protocol 5: _frombuffer(buffer, dtype, shape, order)
            raw, dtype, shape, order = (*args, None, None, None, None)[:4]
            return _from_raw(self.plain(raw, depth), _dtype(dtype), shape, order == "F")
        if kind == "scalar":
            if len(args) < 2:
                raise ModelError("a numpy scalar without its value")
            return _from_raw(self.plain(args[1], depth), _dtype(args[0]), (1,), False)[0]
        if kind.startswith("sparse_"):
            return _sparse(kind[-3:], self._state(value, depth))
        if kind == "chumpy":
            return _chumpy(self._state(value, depth))
        raise ModelError(f"an unfinished {kind}")

    def _array(self, state: Any, depth: int) -> Any:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise ModelError("an array without its data")
        shape, dtype, fortran, raw = state[-4:]
        kind = _dtype(dtype)
        if kind is None:
            if not isinstance(raw, list) or not isinstance(shape, tuple):
                raise ModelError("an array of objects without its list")
            items = [self.plain(v, depth) for v in raw]
            return items[0] if shape == () and len(items) == 1 else items
        return _from_raw(self.plain(raw, depth), kind, shape, bool(fortran))

    def _state(self, value: _Record, depth: int) -> dict[Any, Any]:
        state = self.plain(value.state, depth)
        if isinstance(state, tuple) and len(state) == 2:  # (dict, slots)
            state = {**(state[0] or {}), **(state[1] or {})}
        if not isinstance(state, dict):
            raise ModelError(f"a {value.kind} without its data")
        return state


def _dtype(value: Any) -> np.dtype[Any] | None:
    """The dtype of a record; None for objects. Built from the type string alone, never from the file's raw state."""
    text = value.args[0] if isinstance(value, _Record) and value.kind == "dtype" and value.args else value
    order = (
        value.state[1]
        if isinstance(value, _Record) and isinstance(value.state, tuple) and len(value.state) > 1
        else "="
    )
    if not isinstance(text, str) or not isinstance(order, str):
        raise ModelError("an array of an unknown type")
    body = text.lstrip("<>=|")
    if body.startswith("O"):
        return None
    if body[:1] not in _NUMBERS or not (body[1:].isdigit() or len(body) == 1):
        raise ModelError(f"an array of the type {text[:20]!r}; expected numbers or text")
    found = np.dtype(body)
    return found.newbyteorder(">" if order == ">" else "<") if order in ("<", ">") else found


def _from_raw(raw: Any, dtype: np.dtype[Any] | None, shape: Any, fortran: bool) -> np.ndarray:
    if isinstance(raw, str):  # a Python 2 pickle
        raw = raw.encode("latin1")
    if dtype is None or not isinstance(raw, (bytes, bytearray, memoryview)):
        raise ModelError("an array without its data")
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ModelError("an array with an impossible shape")
    size = dtype.itemsize
    for n in shape:
        size *= n
    if size != len(raw) or size > _MAX_BYTES:
        raise ModelError(f"an array of shape {shape} and type {dtype} needs {size} bytes, got {len(raw)}")
    return np.frombuffer(raw, dtype=dtype).reshape(shape, order="F" if fortran else "C").copy()


def _sparse(kind: str, state: dict[Any, Any]) -> np.ndarray:
    shape = state.get("_shape", state.get("shape"))
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[0] * shape[1] * 8 > _MAX_BYTES:
        raise ModelError(f"a sparse matrix of an impossible shape {shape!r}")
    try:
        if kind == "coo":
            row, col = state["coords"] if "coords" in state else (state["row"], state["col"])
            if len(row) and (min(row.min(), col.min()) < 0 or row.max() >= shape[0] or col.max() >= shape[1]):
                raise ModelError("a sparse matrix with indices out of its shape")
            return scipy.sparse.coo_matrix((state["data"], (row, col)), shape=shape).toarray()
        build = scipy.sparse.csc_matrix if kind == "csc" else scipy.sparse.csr_matrix
        found = build((state["data"], state["indices"], state["indptr"]), shape=shape)
        found.check_format(full_check=True)  # else toarray() would trust the file's indices
        return found.toarray()
    except (KeyError, ValueError, TypeError, AttributeError) as e:
        raise ModelError(f"a damaged sparse matrix ({e})") from e


def _chumpy(state: dict[Any, Any]) -> np.ndarray:
    if "x" in state:
        return np.asarray(state["x"])
    if "a" in state and "idxs" in state:
        flat, index = np.asarray(state["a"]).reshape(-1), np.asarray(state["idxs"])
        if not np.issubdtype(index.dtype, np.integer) or (index.size and (index.min() < 0 or index.max() >= len(flat))):
            raise ModelError("a chumpy selection with indices out of its array")
        found = flat[index.reshape(-1)]
        return found.reshape(tuple(state["preferred_shape"])) if state.get("preferred_shape") is not None else found
    raise ModelError("a chumpy array without data ('x', or 'a' and 'idxs')")

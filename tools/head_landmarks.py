from __future__ import annotations
import numpy as np
def embed(mean, faces, part, mirror, expression):
    t68 = np.zeros(68, np.int32); b68 = np.tile(np.array([1, 0, 0], np.float32), (68, 1))
    return {"landmarks68_triangle": t68, "landmarks68_barycentric": b68,
            "landmarks478_triangle": np.zeros(478, np.int32), "landmarks478_barycentric": np.tile(np.array([1, 0, 0], np.float32), (478, 1))}

"""Speed of the renderer. ``benches()`` yields rows {name, value, unit, baseline, ratio, command}; see ``make bench``.

A baseline is measured in the same run on the same mesh, or it is None. OpenGL (Mesa's llvmpipe on a machine without a
GPU) is measured where ``moderngl`` is importable; PyTorch3D where it is installed.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphsym.rendering import cameras as cams
from morphsym.rendering import default_lights, differentiable, portrait_camera, rasterize, render
from morphsym.rendering.backends import _compile, numba_kernels
from morphsym.types import Cameras

COMMAND = "python -m tests.benchmarks.bench_render"
SIZE, BATCH = 224, 8
ICT = Path(__file__).resolve().parents[3] / "shared" / "data" / "face_models" / "ict_facekit.npz"

Mesh = tuple[str, Tensor, Tensor, Tensor]  # name, vertices (V, 3), faces (F, 3), albedo (V, 3)

VERTEX = """#version 330
uniform mat4 view; uniform mat4 projection; uniform vec3 light;
in vec3 position; in vec3 normal; in vec3 albedo; out vec3 color;
void main() {
  vec4 eye = view * vec4(position, 1.0); vec3 n = mat3(view) * normal; vec3 h = normalize(light - normalize(eye.xyz));
  float d = max(dot(n, light), 0.0);
  color = albedo * (0.35 + 0.75 * d) + 0.045 * pow(max(dot(n, h), 0.0), 32.0);
  gl_Position = projection * eye;
}"""
FRAGMENT = "#version 330\nin vec3 color; out vec4 pixel; void main() { pixel = vec4(color, 1.0); }"


def meshes() -> Iterator[Mesh]:
    """The bundled head, and ICT-FaceKit whole and its skin, where they are present."""
    from morphsym.faces import load_model

    head = load_model("makehuman")
    yield (
        f"bundled head ({len(head.faces)} triangles)",
        torch.as_tensor(head.mean),
        torch.as_tensor(head.faces),
        torch.as_tensor(head.albedo),
    )
    if not ICT.is_file():
        return
    data = np.load(ICT, allow_pickle=False)
    mean, faces = data["mean"].astype(np.float32), data["faces"]
    for name, kept in (("ICT skin", faces[data["face_material"] == 4]), ("ICT", faces)):
        used, index = np.unique(kept, return_inverse=True)
        triangles = torch.from_numpy(index.reshape(-1, 3).astype(np.int32))
        yield (
            f"{name} ({len(kept)} triangles)",
            torch.from_numpy(mean[used]),
            triangles,
            torch.full((len(used), 3), 0.6),
        )


def rates(*works: Callable[[], Any], items: int, seconds: float = 6.0) -> list[tuple[float, float]]:
    """For each of ``works``: items a second of wall time and of processor time (all threads), the best of many rounds.

    The works take turns, so that a busy machine is busy for all of them. Processor time hardly sees its other tenants.
    """
    for work in works:
        work()
    best = np.full((len(works), 2), np.inf)
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or not np.isfinite(best).all():
        for k, work in enumerate(works):
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            best[k] = np.minimum(best[k], [time.perf_counter() - wall, time.process_time() - cpu])
    return [(items / wall, items / max(cpu, 1e-9)) for wall, cpu in best]


def opengl(vertices: Tensor, faces: Tensor, albedo: Tensor, cameras: Cameras) -> tuple[str, Callable[[], None]] | None:
    """Shaded pictures through OpenGL at 4 samples, read back; given the normals, which the renderer finds itself."""
    if importlib.util.find_spec("moderngl") is None:
        return None
    import moderngl

    try:
        context = moderngl.create_context(standalone=True, backend="egl")
    except Exception as error:
        print(f"moderngl is installed but gives no EGL context ({error}); no OpenGL baseline")
        return None
    program = context.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
    normals = np.empty(vertices.shape, np.float32)
    numba_kernels.vertex_normals(vertices.numpy(), faces.numpy().astype(np.uint32), normals)
    packed = np.concatenate([vertices.numpy(), normals, albedo.numpy()], 1).astype(np.float32).tobytes()
    buffer = context.buffer(packed, dynamic=True)
    index = context.buffer(faces.numpy().astype(np.uint32).tobytes())
    array = context.vertex_array(program, [(buffer, "3f 3f 3f", "position", "normal", "albedo")], index)
    size = (cameras.width, cameras.height)
    many = context.framebuffer([context.renderbuffer(size, samples=4)], context.depth_renderbuffer(size, samples=4))
    one = context.framebuffer([context.renderbuffer(size)])
    context.enable(moderngl.DEPTH_TEST)
    view, projection = (x.transpose(1, 2).contiguous().numpy() for x in cams.to_opengl(cameras))
    program["light"].value = (0.0, 0.57, 0.82)

    def draw() -> None:
        for b in range(len(cameras)):
            buffer.write(packed)  # every picture has its own vertices
            program["view"].write(view[b].tobytes())
            program["projection"].write(projection[b].tobytes())
            many.use()
            many.clear(0.5, 0.5, 0.5)
            array.render()
            context.copy_framebuffer(one, many)
            picture = np.frombuffer(one.read(), np.uint8)
        assert picture.std() > 10, "OpenGL has drawn nothing"

    return str(context.info["GL_RENDERER"]), draw


def row(name: str, value: float, unit: str, baseline: float | None = None) -> dict[str, Any]:
    ratio = None if baseline is None else value / baseline
    return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "command": COMMAND}


def against(
    name: str, unit: str, value: tuple[float, float], baseline: tuple[float, float]
) -> Iterator[dict[str, Any]]:
    """A comparison by wall time and by processor time."""
    yield row(name, value[0], unit, baseline[0])
    yield row(f"{name}, by processor time", value[1], unit.replace("/s", "/core s"), baseline[1])


def benches() -> Iterator[dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a study; torch's threads wait by spinning, which would count as processor time
    try:
        yield from _benches()
    finally:
        torch.set_num_threads(threads)


def _benches() -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    camera = portrait_camera(SIZE, yaw=rng.uniform(-30, 30, BATCH), pitch=rng.uniform(-10, 10, BATCH))
    lights = default_lights(BATCH)
    spent: dict[int, tuple[float, float]] = {}
    for name, vertices, faces, albedo in meshes():
        batch = vertices.expand(BATCH, -1, -1).contiguous()

        def shaded(samples: int, batch: Tensor = batch, faces: Tensor = faces, albedo: Tensor = albedo) -> Any:
            return lambda: render(batch, faces, albedo, camera, lights, backend="numba", samples=samples)

        plain = lambda b=batch, f=faces: rasterize(b, f, camera, "numba")  # noqa: E731
        gl = opengl(vertices, faces, albedo, camera)
        four, one, bare, *other = rates(shaded(4), shaded(1), plain, *([gl[1]] if gl else []), items=BATCH)
        if gl:
            yield from against(
                f"shaded, {name}, {SIZE}², 4 samples, against OpenGL on {gl[0]}", "renders/s", four, other[0]
            )
        else:
            yield row(f"shaded, {name}, {SIZE}², 4 samples", four[0], "renders/s")
        yield row(f"shaded, {name}, {SIZE}², 1 sample", one[0], "renders/s")
        yield row(f"fragments, {name}, {SIZE}²", bare[0], "renders/s")
        spent[len(faces)] = four
        if importlib.util.find_spec("pytorch3d") is not None and len(spent) < 3:
            slow = lambda v=vertices, f=faces: rasterize(v[None], f, camera[0], "pytorch3d")  # noqa: E731
            (theirs,) = rates(slow, items=1, seconds=0)
            yield from against(f"fragments, {name}, {SIZE}², against PyTorch3D on the CPU", "renders/s", bare, theirs)
        yield from gradients(name, vertices, faces, albedo)
    if len(spent) > 1:
        few, many = min(spent), max(spent)
        # a time that is linear in triangles and in pixels, of which there are as many, grows at most as the triangles do
        name = f"shaded: time for {many} triangles over time for {few}, against the ratio of triangles"
        yield row(f"{name}, by processor time", spent[few][1] / spent[many][1], "×", many / few)
    yield from classified()


def classified() -> Iterator[dict[str, Any]]:
    """Where the time of render + classify goes, on one thread as in a study."""
    from morphsym.classifiers import bundled, load_classifier
    from morphsym.faces import load_model

    model, count = load_model("makehuman"), 8
    camera, lights = portrait_camera(SIZE, yaw=np.linspace(-10, 10, count)), default_lights(count)
    vertices = model.mean[None].float().expand(count, -1, -1).contiguous()
    marks, _ = cams.project(camera, model.landmarks(vertices))
    faces, albedo = torch.as_tensor(model.faces), torch.as_tensor(model.albedo)
    images, _ = render(vertices, faces, albedo, camera, lights)
    with _compile.limited(1):
        loaded = [load_classifier(c) for c in bundled()]
        works = [lambda c=c: c(images, marks) for c in loaded]
        drawn, *asked = rates(lambda: render(vertices, faces, albedo, camera, lights), *works, items=count)
    total = 1 / drawn[1] + sum(1 / a[1] for a in asked)
    yield row(
        f"render + classify ({', '.join(bundled())}), one thread, by processor time", 1 / total, "pictures/core s"
    )
    yield row("of which rendering", 100 / drawn[1] / total, "%")


def gradients(name: str, vertices: Tensor, faces: Tensor, albedo: Tensor) -> Iterator[dict[str, Any]]:
    """Interpolation alone and the whole differentiable picture: forward and backward, against forward."""
    count = 4
    camera, lights = portrait_camera(SIZE, yaw=np.linspace(-30, 30, count)), default_lights(count)
    batch = vertices.expand(count, -1, -1).contiguous().requires_grad_()
    across = differentiable.neighbours(faces)

    def rasterised() -> Tensor:
        triangle = rasterize(batch, faces, camera).triangle
        points = differentiable.image_points(camera, batch)
        return differentiable.Interpolate.apply(points, batch, faces, triangle)

    def whole() -> Tensor:
        return differentiable.render(batch, faces, albedo.expand(count, -1, -1), camera, lights, across=across)

    for what, forward in (("rasterise and interpolate", rasterised), ("antialiased picture", whole)):
        both, ahead = rates(lambda f=forward: f().sum().backward(), lambda f=forward: f(), items=count)
        title = f"{what} and gradient to vertices, {name}, {SIZE}², against forward alone"
        yield from against(title, "images/s", both, ahead)


if __name__ == "__main__":
    for line in benches():
        base = "" if line["baseline"] is None else f"  baseline {line['baseline']:.1f}  ratio {line['ratio']:.2f}"
        print(f"{line['name']}: {line['value']:.1f} {line['unit']}{base}", flush=True)

"""Photo loading: what comes out of every kind of file, and the one clear line for every kind of bad one."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data

from morphsym.errors import InputError
from morphsym.fitting.images import load_array, load_photo
from morphsym.fitting.listing import find_photos, natural_key
from morphsym.resources import asset, sha256


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A small picture without any symmetry: (40, 60, 3) uint8."""
    return np.ascontiguousarray(data.astronaut()[60:180:3, 140:320:3])


def test_png_comes_back_exactly(tmp_path, scene):
    path = tmp_path / "a.png"
    Image.fromarray(scene).save(path)
    photo = load_photo(path)
    np.testing.assert_array_equal(photo.pixels, scene)
    assert (photo.height, photo.width, photo.note) == (40, 60, "")
    assert photo.sha256 == sha256(path)
    assert photo.path == str(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, scene, orientation):
    # how a camera stores an upright scene: the inverse of what each EXIF value asks a viewer to do
    stored = {
        1: scene, 2: scene[:, ::-1], 3: scene[::-1, ::-1], 4: scene[::-1], 5: scene.transpose(1, 0, 2),
        6: np.rot90(scene, 1), 7: scene[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(scene, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    photo = load_photo(path)
    np.testing.assert_array_equal(photo.pixels, scene)
    assert ("EXIF" in photo.note) == (orientation != 1)


def test_grey_palette_and_bilevel(tmp_path, scene):
    grey = Image.fromarray(scene).convert("L")
    grey.save(tmp_path / "grey.png")
    photo = load_photo(tmp_path / "grey.png")
    assert photo.note == "greyscale"
    np.testing.assert_array_equal(photo.pixels, np.repeat(np.asarray(grey)[..., None], 3, 2))
    palette = Image.fromarray(scene).quantize(64)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(load_photo(tmp_path / "p.png").pixels, np.asarray(palette.convert("RGB")))
    grey.convert("1").save(tmp_path / "1.png")
    assert set(np.unique(load_photo(tmp_path / "1.png").pixels)) == {0, 255}


def test_transparency_is_laid_over_white(tmp_path, scene):
    alpha = np.full(scene.shape[:2], 255, np.uint8)
    alpha[:, :15], alpha[:, 15:30] = 0, 128
    Image.fromarray(np.dstack([scene, alpha])).save(tmp_path / "a.png")
    photo = load_photo(tmp_path / "a.png")
    weight = alpha[..., None] / 255
    np.testing.assert_allclose(photo.pixels, scene * weight + 255 * (1 - weight), atol=1)
    assert "over white (50 %" in photo.note


def test_cmyk(tmp_path, scene):
    Image.fromarray(scene).convert("CMYK").save(tmp_path / "a.jpg", quality=98, subsampling=0)
    photo = load_photo(tmp_path / "a.jpg")
    assert np.abs(photo.pixels.astype(int) - scene).mean() < 4  # not the inverted picture
    assert "CMYK" in photo.note


def test_colour_profile_is_applied(tmp_path, scene):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.createProfile("sRGB")
    image = ImageCms.profileToProfile(Image.fromarray(scene), srgb, lab, outputMode="LAB")
    image.save(tmp_path / "lab.tif", icc_profile=lab.tobytes())
    photo = load_photo(tmp_path / "lab.tif")
    assert np.abs(photo.pixels.astype(int) - scene).mean() < 3
    assert "converted to sRGB" in photo.note
    Image.fromarray(scene).save(tmp_path / "bad.png", icc_profile=b"not a profile")
    photo = load_photo(tmp_path / "bad.png")
    np.testing.assert_array_equal(photo.pixels, scene)
    assert "unreadable colour profile" in photo.note


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits(tmp_path, scene, suffix):
    grey = np.asarray(Image.fromarray(scene).convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / f"a{suffix}")
    photo = load_photo(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(photo.pixels[..., 1], grey)
    assert "16 bits" in photo.note


def test_animated_gif_gives_the_first_frame(tmp_path, scene):
    frames = [Image.fromarray(f) for f in (scene, scene[::-1].copy(), scene[:, ::-1].copy())]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    photo = load_photo(tmp_path / "a.gif")
    assert photo.note.startswith("first of 3 frames")
    assert np.abs(photo.pixels.astype(int) - scene).mean() < 12  # 256 colours


def test_large_photos_are_reduced(tmp_path, scene):
    big = np.kron(scene, np.ones((8, 8, 1), np.uint8))
    for name, limit, factor, size in [
        ("a.png", 20_000, 3, (160, 107)),
        ("a.jpg", 20_000, 3, (160, 107)),
        ("a.jpg", 12_000, 4, (120, 80)),
        ("a.jpg", 4_500, 6, (80, 54)),
    ]:
        Image.fromarray(big).save(tmp_path / name, quality=95)
        photo = load_photo(tmp_path / name, max_pixels=limit)
        assert photo.note == f"reduced from 480×320 by {factor}"
        assert (photo.width, photo.height) == size
        assert np.abs(photo.pixels.mean((0, 1)) - scene.mean((0, 1))).max() < 3


def test_hundred_megapixels_and_absurd(tmp_path):
    Image.new("L", (12000, 9000), 90).save(tmp_path / "a.png")  # 108 megapixels
    photo = load_photo(tmp_path / "a.png")
    assert photo.pixels.shape == (4500, 6000, 3)
    assert "reduced from 12000×9000 by 2" in photo.note
    Image.new("1", (20000, 20000)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match="larger than 178 megapixels; scale it down"):
        load_photo(tmp_path / "b.png")


def _jpeg(scene: np.ndarray) -> bytes:
    f = io.BytesIO()
    Image.fromarray(np.kron(scene, np.ones((4, 4, 1), np.uint8))).save(f, "JPEG")
    return f.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("zero.jpg", b"", r"zero\.jpg is empty \(0 bytes\)"),
        ("text.jpg", b"dear diary,\nno photo", r"text\.jpg is not a picture that can be read \(it looks like text\)"),
        ("page.png", b"<!DOCTYPE html><html>", "it is a web page"),
        ("noise.jpg", bytes(range(128, 200)), "starts with 80 81 82"),
        ("header.png", b"\x89PNG\r\n\x1a\n\x00\x00", "header.png is"),
        ("phone.heic", b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "HEIC"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as e:
        load_photo(path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_truncated_jpeg(tmp_path, scene, keep):
    whole = _jpeg(scene)
    (tmp_path / "cut.jpg").write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(InputError, match="cut.jpg is (damaged or incomplete|not a picture)"):
        load_photo(tmp_path / "cut.jpg")


def test_missing_and_folder(tmp_path):
    with pytest.raises(InputError, match=r"no such photo: .*gone\.jpg"):
        load_photo(tmp_path / "gone.jpg")
    with pytest.raises(InputError, match="is a folder; give the photos in it"):
        load_photo(tmp_path)


def test_find_photos(tmp_path):
    for name in ("face10.JPG", "face2.png", "Face1.webp", "notes.txt", ".hidden.jpg", "noending"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    found = find_photos([tmp_path])
    assert [p.name for p in found] == ["Face1.webp", "face2.png", "face10.JPG"]
    again = find_photos([tmp_path / "face10.JPG", tmp_path, tmp_path / "gone.xyz"])
    assert [p.name for p in again] == ["face10.JPG", "Face1.webp", "face2.png", "gone.xyz"]
    with pytest.raises(InputError, match="no photos in the folder"):
        find_photos([tmp_path / "folder.png"])
    with pytest.raises(InputError, match="no photos given"):
        find_photos([])


def test_natural_key_orders_mixed_names():
    names = ["b", "a10", "a2", "10", "9", "A1b3", "a1b20"]
    assert sorted(names, key=natural_key) == ["9", "10", "A1b3", "a1b20", "a2", "a10", "b"]


def test_arrays(scene):
    np.testing.assert_array_equal(load_array(scene).pixels, scene)
    np.testing.assert_array_equal(load_array(Image.fromarray(scene)).pixels, scene)
    np.testing.assert_array_equal(load_array(scene.astype(np.float32) / 255).pixels, scene)
    np.testing.assert_array_equal(load_array(scene.astype(np.uint16) * 257).pixels, scene)
    np.testing.assert_array_equal(load_array(scene[..., 0]).pixels, np.repeat(scene[..., :1], 3, 2))
    np.testing.assert_array_equal(load_array(scene[..., :1]).pixels, np.repeat(scene[..., :1], 3, 2))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 40, 60)), r"got \(3, 40, 60\); move the channels last"),
        (np.zeros((0, 5, 3), np.uint8), r"got \(0, 5, 3\)"),
        (np.full((4, 4, 3), 255.0), r"expected float pixels in \[0, 1\], the image has 255 to 255"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((4, 4), 200, np.int64), "expected uint8 or uint16 pixels, the image has int64"),
        (np.zeros((4, 4), complex), "complex"),
    ],
)
def test_bad_arrays(array, message):
    with pytest.raises(InputError, match=message):
        load_array(array)


def test_sample_belongs_to_its_photo():
    sample = json.loads(asset("sample/astronaut.json").read_text())
    photo = load_array(data.astronaut())
    assert photo.sha256 == sample["pixels_sha256"] == hashlib.sha256(data.astronaut().tobytes()).hexdigest()
    assert (photo.height, photo.width) == (sample["height"], sample["width"])
    points = np.array(sample["landmarks_68"])
    assert points.shape == (68, 2)
    assert np.array(sample["landmarks_478"]).shape == (478, 3)
    assert len(sample["blendshapes"]) == 52
    # the subject's right eye (36-41) is on the left of the picture, and the smile that everybody sees is there
    assert points[36:42, 0].max() < points[42:48, 0].min()
    assert min(sample["blendshapes"]["mouthSmileLeft"], sample["blendshapes"]["mouthSmileRight"]) > 0.8

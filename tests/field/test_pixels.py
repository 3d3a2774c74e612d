"""Pixels: colour matrix and range, depth, fields, alpha, palettes, aspect, HDR, orientation of images.

A card of flat patches is encoded in the way of each kind; the patches must come back in the colours that
were put in, and every pixel as the ffmpeg program decodes it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vidprompt.data.decode.reader import read_frames
from vidprompt.data.manifest.health import Health
from vidprompt.data.probe.result import ProbeResult
from vidprompt.data.probe.videos import probe_video
from vidprompt.system.errors import DataError

HEIGHT, WIDTH, FRAMES = 64, 96, 3
COLOURS = [
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)),
    *((0, 0, 0), (255, 255, 255), (128, 128, 128), (64, 64, 64), (224, 172, 140), (190, 120, 90)),
    *((20, 60, 30), (90, 140, 200), (250, 130, 20), (110, 30, 120), (10, 100, 100), (70, 70, 20)),
    *(
        (240, 220, 200),
        (33, 44, 55),
        (200, 10, 60),
        (150, 200, 50),
        (120, 120, 250),
        (30, 200, 140),
    ),
]
CARD = np.array(COLOURS, np.uint8).reshape(4, 6, 3).repeat(16, 0).repeat(16, 1)
CLIP = np.stack([np.roll(CARD, 16 * number, axis=1) for number in range(FRAMES)])
INSIDE = np.zeros((HEIGHT, WIDTH), bool)  # of the patches, away from their edges
for top in range(4, HEIGHT, 16):
    for left in range(4, WIDTH, 16):
        INSIDE[top : top + 8, left : left + 8] = True

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "4")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:qp=4")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "4", "-b:v", "0")
HOLE = "format=rgba,geq=r=r(X\\,Y):g=g(X\\,Y):b=b(X\\,Y):a=if(lt(X\\,48)\\,0\\,255)"
PALETTE = "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none"


def yuv(matrix: str, value_range: str = "tv", pix_fmt: str = "yuv420p") -> tuple[str, ...]:
    """Convert with this matrix and range, and say so in the stream."""
    scale = f"scale=out_color_matrix={matrix}:out_range={value_range}:flags=accurate_rnd+bicubic"
    name = {"bt601": "smpte170m", "bt2020": "bt2020nc"}.get(matrix, matrix)
    tags = ("-colorspace", name, "-color_range", value_range)
    return ("-vf", f"{scale},format={pix_fmt}", *tags)


def hdr(transfer: str) -> tuple[str, ...]:
    option, filters, *tags = yuv("bt2020", pix_fmt="yuv420p10le")
    return (
        option,
        f"{filters},setparams=color_primaries=bt2020:color_trc={transfer}",
        *tags,
        *X265,
    )


SAYS_NOTHING = ("-bsf:v", "h264_metadata=matrix_coefficients=2")
# name → how the clip is encoded, and the notes on it
CLIPS: dict[str, tuple[tuple[str, ...], str]] = {
    "untagged.mp4": ((*yuv("bt601"), *X264, *SAYS_NOTHING), ""),
    "601.mp4": ((*yuv("bt601"), *X264), ""),
    "709.mp4": ((*yuv("bt709"), *X264), ""),
    "2020.mp4": ((*yuv("bt2020"), *X264), ""),
    "601_full.mp4": ((*yuv("bt601", "pc"), *X264), ""),
    "709_full.mp4": ((*yuv("bt709", "pc"), *X264), ""),
    "709_full.webm": ((*yuv("bt709", "pc"), *VP9), ""),
    "709.mkv": ((*yuv("bt709"), "-c:v", "mpeg4", "-q:v", "2"), ""),
    "709_10bit.mp4": ((*yuv("bt709", pix_fmt="yuv420p10le"), *X264), ""),
    "rgb.mp4": (("-c:v", "libx264rgb", "-preset", "ultrafast", "-qp", "4"), ""),
    "rgb48.mkv": (("-pix_fmt", "rgb48le", "-c:v", "ffv1"), ""),
    "pq.mp4": (hdr("smpte2084"), "HDR (PQ): read without tone mapping."),
    "hlg.mp4": (hdr("arib-std-b67"), "HDR (HLG): read without tone mapping."),
    "palette.avi": (("-vf", PALETTE, "-pix_fmt", "pal8", "-c:v", "rawvideo"), ""),
    "palette.gif": (("-vf", PALETTE), ""),
    "alpha.mov": (
        ("-vf", HOLE, "-c:v", "png"),
        "Transparent pixels: read without alpha, in the colour stored below it.",
    ),
    "alpha.webm": (
        ("-vf", f"{HOLE},format=yuva420p", *VP9, "-auto-alt-ref", "0"),
        "Transparent pixels: read without alpha, in the colour stored below it.",
    ),
    "wide_pixels.mp4": (
        (*yuv("bt601"), *X264, "-aspect", "16:9"),
        "Pixels not square: 32:27, read as they are stored.",
    ),
    "interlaced.mp4": (
        (*yuv("bt601"), *X264, "-flags", "+ildct+ilme", "-x264opts", "tff=1"),
        "Interlaced: 3 of 3 frames hold two fields, read as one picture.",
    ),
}
# What the program does otherwise unless it is told: the H.264 and HEVC standards put colour samples on
# the left, and the colours of an interlaced picture belong to its fields.
SCALE = {
    **dict.fromkeys(("709_10bit.mp4", "pq.mp4", "hlg.mp4"), "in_chroma_loc=left"),
    "interlaced.mp4": "interl=-1",
}


def ffmpeg(*arguments: str | Path, data: bytes = b"") -> bytes:
    """The program's standard output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def encode(path: Path, pixels: NDArray[np.uint8], *options: str, pix_fmt: str = "rgb24") -> Path:
    raw = ("-f", "rawvideo", "-pix_fmt", pix_fmt, "-s", f"{WIDTH}x{HEIGHT}", "-r", "25", "-i", "-")
    ffmpeg(*raw, *options, path, data=pixels.tobytes())
    return path


def decode(path: Path, scale: str = "") -> NDArray[np.uint8]:
    """All frames as the program gives them."""
    filters = ("-vf", f"scale={scale}") if scale else ()
    raw = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    data = ffmpeg("-i", path, *filters, *raw)
    return np.frombuffer(data, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)


def error(frames: NDArray[np.uint8], truth: NDArray[np.uint8]) -> int:
    """The largest difference within the patches."""
    return int(np.abs(frames[..., INSIDE, :].astype(int) - truth[..., INSIDE, :]).max())


@pytest.mark.parametrize("name", CLIPS)
def test_colours_are_those_that_were_encoded(tmp_path: Path, name: str) -> None:
    options, note = CLIPS[name]
    path = encode(tmp_path / name, CLIP, *options)
    probe = probe_video(path, 1)
    assert (probe.health, probe.n_frames, probe.detail) == (Health.OK, FRAMES, "")
    assert " ".join(probe.notes) == note
    for exact in {False, probe.exact}:
        frames = read_frames(path, range(FRAMES), exact=exact)
        assert error(frames, CLIP) <= 6
        np.testing.assert_array_equal(frames, decode(path, SCALE.get(name, "")))


def test_colours_of_interlaced_video_belong_to_its_fields(tmp_path: Path) -> None:
    """A picture of two fields, the second one shifted, each with its own colour samples."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    fields, planes = [], []
    for shift in (0, 12):
        waves = [np.sin((x + shift) / 9), np.sin((x + shift + y) / 13), np.sin((y - x) / 17)]
        picture = (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)
        field = np.ascontiguousarray(picture[shift > 0 :: 2])
        size = f"{WIDTH}x{HEIGHT // 2}"
        to_yuv = (
            "-vf",
            "scale=out_color_matrix=bt601",
            "-pix_fmt",
            "yuv420p",
            "-f",
            "rawvideo",
            "-",
        )
        raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-i", "-")
        fields.append(field)
        stored = np.frombuffer(ffmpeg(*raw, *to_yuv, data=field.tobytes()), np.uint8)
        count = HEIGHT // 2 * WIDTH
        parts = np.split(stored, (count, count * 5 // 4))
        planes.append(
            [parts[0].reshape(-1, WIDTH), *(p.reshape(-1, WIDTH // 2) for p in parts[1:])]
        )
    woven = np.stack(fields, axis=1).reshape(HEIGHT, WIDTH, 3)
    stored = np.concatenate([np.stack(pair, axis=1).ravel() for pair in zip(*planes, strict=True)])
    coded = ("-vf", "setfield=tff", "-c:v", "ffv1")
    path = encode(tmp_path / "fields.mkv", np.tile(stored, 2), *coded, pix_fmt="yuv420p")
    probe = probe_video(path, 1)
    assert not probe.exact  # decord takes the colours of one field for the other
    frame = read_frames(path, [1], exact=probe.exact)[0]
    assert np.abs(frame.astype(int) - woven).mean() < 5
    assert np.abs(decode(path)[0].astype(int) - woven).mean() > 10


def test_a_matrix_that_ffmpeg_does_not_convert_is_named(tmp_path: Path) -> None:
    unknown = ("-bsf:v", "h264_metadata=matrix_coefficients=8")
    path = encode(tmp_path / "ycgco.mp4", CLIP, *X264, "-pix_fmt", "yuv444p", *unknown)
    probe = probe_video(path, 1)
    assert probe.health is Health.UNDECODABLE
    assert "FFmpeg does not convert its colours (yuv444p, matrix YCgCo)" in probe.detail
    with pytest.raises(DataError, match=r"ycgco\.mp4: FFmpeg does not convert .* re-encode it"):
        read_frames(path, [0], exact=False)


# -- images of frame folders

GREY = CARD[..., 0]
GREY_RGB = GREY[..., None].repeat(3, axis=2)
ALPHA = np.where(np.arange(WIDTH) < 48, 0, 255).astype(np.uint8)[None].repeat(HEIGHT, axis=0)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def read_image(path: Path) -> tuple[NDArray[np.uint8], ProbeResult]:
    probe = probe_video(path.parent, 1, "frames")
    assert (probe.health, probe.detail) == (Health.OK, "")
    frame = read_frames(path.parent, [0], kind="frames")[0]
    assert frame.shape == (probe.height, probe.width, 3)
    return frame, probe


@pytest.mark.parametrize(
    ("name", "image", "truth"),
    [
        ("0.png", Image.fromarray(CARD), CARD),
        ("grey.png", Image.fromarray(GREY), GREY_RGB),
        ("grey16.png", Image.fromarray(GREY.astype(np.uint16) * 257), GREY_RGB),
        ("grey16.tif", Image.fromarray(GREY.astype(np.uint16) * 257), GREY_RGB),
        ("grey16.pgm", Image.fromarray(GREY.astype(np.uint16) * 257), GREY_RGB),
        ("palette.png", Image.fromarray(CARD).quantize(64), CARD),
        ("alpha.png", Image.fromarray(np.dstack([CARD, ALPHA])), CARD),
        ("grey_alpha.png", Image.fromarray(np.dstack([GREY, ALPHA]), "LA"), GREY_RGB),
        ("cmyk.jpg", Image.fromarray(CARD).convert("CMYK"), CARD),
        ("cmyk.tif", Image.fromarray(CARD).convert("CMYK"), CARD),
        ("0.bmp", Image.fromarray(CARD), CARD),
    ],
)
def test_images_of_every_depth_and_colour_model_give_their_colours(
    tmp_path: Path, name: str, image: Image.Image, truth: NDArray[np.uint8]
) -> None:
    image.save(tmp_path / name, **({"quality": 98} if name.endswith("jpg") else {}))
    frame, probe = read_image(tmp_path / name)
    assert error(frame, truth) <= 2
    assert error(frame, decode(tmp_path / name)[0]) <= 2
    assert probe.codec == (image.format or Image.open(tmp_path / name).format or "").lower()


def test_colours_of_16_bits_keep_their_upper_8(tmp_path: Path) -> None:
    encode(tmp_path / "rgb48.png", CARD, "-pix_fmt", "rgb48be", "-frames:v", "1")
    frame, _ = read_image(tmp_path / "rgb48.png")
    assert error(frame, CARD) <= 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("tag", TURNS)
def test_images_stand_upright_as_their_exif_tag_says(tmp_path: Path, tag: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    image = Image.fromarray(CARD).transpose(TURNS[tag])
    path = tmp_path / f"turned.{suffix}"
    options = {"quality": 98, "subsampling": 0} if suffix == "jpg" else {}
    image.save(path, exif=exif, **options)
    frame, probe = read_image(path)
    assert (probe.width, probe.height) == (WIDTH, HEIGHT)
    assert error(frame, CARD) <= 2
    if suffix != "tif":  # Pillow turns these itself
        assert probe.rotation == {2: 0, 3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}[tag]


def test_an_image_without_a_range_is_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "depth.tif")
    probe = probe_video(tmp_path, 1, "frames")
    assert probe.health is Health.UNDECODABLE
    assert "(depth.tif): its pixels are 32-bit numbers of unknown range" in probe.detail
    with pytest.raises(DataError, match=r"depth\.tif: cannot be read: its pixels are 32-bit"):
        read_frames(tmp_path, [0], kind="frames")

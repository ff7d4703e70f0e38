"""Hostile and odd image files, all of our own making, each with what must become of it.

`odd_files(large)` makes some 400 of them: half are good images of odd kinds, the others damaged,
made to cost memory or time, or no images at all. With `large` there are bombs among them, 60 MB.

H rows, W columns.
"""

import base64
import io
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

WRITTEN, REJECTED, EITHER = "written", "rejected", "either"
HEIGHT, WIDTH = 48, 64

# A drawn gradient of 40 x 24 by other encoders, libjpeg-turbo's cjpeg and imagecodecs.
ENCODED = {
    "arithmetic": (
        WRITTEN,
        "c-s4a<NpH&0WUXCHwH#V1_nkTWcYuZ!I^=Bjg6g+m4ls~os*M;i${c)hnt&6Qb?FzL{>^(PF6}rMnOeST|r4lSw="
        ">~TvNxu(8R<<Uft5x!pKI?*u)5A2qPyaCl5D|1TU|Ik)n*E5y{~HNd`d<1_=fYW=16jCP7AKLB{`Q7`PY&1Xvjb1"
        "X=&zV&GwB1WGUqGT1ZxXE>iLU3srQHzr^B@Zpcg1<Un56}~&W%F|1jOGV&rQt=9ZKMAp!ch9YJp5vMLr7dyZk|66"
        "zWj9_Xr}suI5@K^%yV@~!(uuj=4_X7iByqiE?9#NaIC`jXe}a*BzKp$>Y(r%5UFpt-|2F}|UsP%",
    ),
    "arithmetic-progressive": (
        WRITTEN,
        "c-s4a<NpH&0WUXCHwH#V1_nkTWcYuZ!I^=Bjg6g+m4ls~os*M;i${c)hnt&6Qb?FzL{>^(PF6}rMnOeST|r4lSw="
        ">~TvNxu(8R<<Uft5x!pKI?*u)5A2qPyaCl5D|1TU|Ik)n*E5y{~HDF#6f1_=fYW=16jCP7AKLB{`Q7}yvD7zO^{V"
        "&GwBWMC3t763Z?Kf`>M=k^H`dQRjvO*(z`-S5w@Zt<wy_&k4a;Jw41Ks_u1tUw(cKtD3FG70^D<=*6Z)mQ-}AqbI"
        "RW@NNy6w%uDr?fzo|Ik8z10*>nkR1OdZCg~6*zB1$pc-wjc-bNLyi~#onClpr85kG@jxF5#Hv-Krfo0MM%s-%6BE"
        "U6A63s+`%dU1a1=6RPEct&E079v8=K",
    ),
    "12-bits": (
        REJECTED,
        "c-s4a<NpH&0WUXCHwH#V1_nkTWcYuZ!I^=H5d=Ua69}*{gGg2u7G@SURyH;;X6NJpVs<t*4sH%kE)W2+c(}QEKpc"
        "=E5UotC%*?D@>}>2@B!mA483cJ4Bp5W98I>5A1R0qH8UG()5N7~6jR6^O^Y8*C6a*L;*q9lZk>t3zU4xS}%nBLVB"
        "oskf8PT-@9m@xlFcAcLo}HbO6CuOQ!KJE}n8d`%?c@>|%*w_tXy%w)SR^K)sH|Zev~bb?TMRrvtC$3t1sUua9xt2"
        "b$al8-_=!NnPm4N^PH^5FcSK{x&%gyUHgS|?-)I(=*V5>TWU;odtrl36{M0Ss>_J8T)ZEfKe~H`9c~gwjqjR*~eV"
        "pwMrUbmXzL8DME+kN5lLl0$i7?o3fuy9Tu7chQ?P+^EK-T=6-Q*;v5_UcO$%hRoW-p!1O1B-_QgX!jjTl%p&>DxF"
        "T%9J_`TO>E7#e<Bpqtl!Ng$nb?f#m1LSIeRYNRh-GvRh@Mw5$E)>5#8C4dfgNjjl;bA6JCPt6JjBhDRi3lIF%*52"
        "+_l02u|IaeX_yy>&o(XAm%Y!Y39zzTVQ3Ktos2)wzz=T9rptql4zL7HAGZQ5P3+)a$9?UuvkdB$t=M1$5n=2C{ZE"
        "D7i`hN!#p^A;ZXRxs=ItKh|)m9s*DhFi}~Y1{T{shyC;;r}-Qa>2a}",
    ),
    "lossless-gray": (
        EITHER,
        "c-s4a<Npx`F$P9PMg|nX%<=y)12+eQ1cL@6gCN8ITMQgP6>JO)=f7=Tn;mrxlZarTKlpzW0C9a8ga",
    ),
    "lossless-16-bits": (
        REJECTED,
        "c-s4a<Npx`F$P9PMg|nXE%5&^kYJEt&|qW`WcYuJfdi<5je+4B+XmCdHM|Mg%n?!tNasi}&>#H22>`zSA>#",
    ),
    "lossless-color": (
        EITHER,
        "c-s4a<NrGbKF5^&q*R6!1`zmvm_d+(L4rYpIY^MfU68>^km3IkAfJJmk&yuzFfp@m{J+J(!yLrm&fvrVlzjfL{`q"
        "hI#5cC>8@|aMzEMp)bJjePl*5?MmXm4`m}$9^3@6^G=F6%c_1viEMm;y`IqG<h|Nl(@hur3M",
    ),
    "jpeg-ls": (
        REJECTED,
        "c-s4a<Npf=h2Q{BH#Y_*1_ovZ1_lWr*5Kk`V`N}p)B$0j3J#zc<Nq7~zcUDO02OF3GYT>=2{JGXGW@^Az{AW4)C<"
        "(g#L&`av-zsY{NVk&m%hKhzwYnv??B3`<mKh%eskf}D+UIZKq;5W!6mQP?OL^UZ8;R=z58FU>uCSK9vS|c8ILOP_"
        "oh6m!2js|r~?0T&=l0JMiVIOM-zyzN3-NRnu2^ZJN_4=@$2m=RZxd+MK&P?<>(5~t-OyWP>sef_<s`sRo6pT",
    ),
    "jpeg-xl": (
        REJECTED,
        "c-jGd0D}Mj3Izy=1PBBH0K@@HD6uJ{{07(Ccl#6usW4b8C`i0eP;ej`3kpC)!C0{nUd)V>{}5>4qEv&A2_m`?02C"
        "ku7yw8Fod^JE|Ds!T{-0I(e?*N@HCzH5nmcg7OQ0bfB!d04$pQcSDEXMU&=85#%wi&FQA;6oLZA)=Hw-YZ",
    ),
}


@dataclass(frozen=True, slots=True)
class OddFile:
    """One file.

    Attributes:
        outcome: what prep must do: write it, reject it, or either (but count it).
        drawn: what it shows if it is `drawing()`, uint8 RGB (H, W, 3).
    """

    name: str
    content: bytes
    outcome: str
    drawn: np.ndarray | None = None


def drawing(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return smooth colors, uint8 RGB (H, W, 3)."""
    down, across = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    colors = np.stack([across, down, (across + down) / 2], axis=-1)
    return (30 + 190 * colors).astype(np.uint8)


def save(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def odd_files(large: bool) -> list[OddFile]:
    """Return them all; names are unique."""
    files = [
        *jpeg_kinds(),
        *jpeg_damage(),
        *jpeg_costs(large),
        *png_kinds(),
        *png_damage(),
        *png_costs(large),
        *gifs(large),
        *webps(),
        *bmps(large),
        *tiffs(large),
        *other_formats(),
        *sizes(large),
    ]
    assert len({file.name for file in files}) == len(files)
    return files


# --- JPEG


def segment(code: int, content: bytes = b"") -> bytes:
    return bytes((0xFF, code)) + struct.pack(">H", len(content) + 2) + content


def jpeg_parts(jpeg: bytes) -> list[tuple[int, bytes]]:
    """Return (code, content) of the segments up to the first scan, whose content is the rest."""
    parts, position = [], 2
    while True:
        code, length = jpeg[position + 1], struct.unpack_from(">H", jpeg, position + 2)[0]
        if code == 0xDA:
            return [*parts, (code, jpeg[position + 2 :])]
        parts.append((code, jpeg[position + 4 : position + 2 + length]))
        position += 2 + length


def join_jpeg(parts: list[tuple[int, bytes]]) -> bytes:
    *tables, (code, scan) = parts
    return b"\xff\xd8" + b"".join(segment(*p) for p in tables) + bytes((0xFF, code)) + scan


def changed(jpeg: bytes, code: int, change) -> bytes:
    """Return a JPEG with one kind of segment changed; None leaves it out."""
    new = [(c, change(content) if c == code else content) for c, content in jpeg_parts(jpeg)]
    return join_jpeg([(c, content) for c, content in new if content is not None])


def with_first(jpeg: bytes, extra: bytes) -> bytes:
    return jpeg[:2] + extra + jpeg[2:]


def at(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def jpeg_kinds() -> Iterator[OddFile]:
    pixels = drawing()
    image = Image.fromarray(pixels)
    plain = save(image, "JPEG", quality=92)

    def good(name: str, content: bytes, drawn: np.ndarray | None = pixels) -> OddFile:
        return OddFile(f"jpeg-{name}.JPEG", content, WRITTEN, drawn)

    for chroma in ("444", "422", "420", "440", "411"):
        jpeg = simplejpeg.encode_jpeg(pixels, quality=92, colorsubsampling=chroma)
        yield good(f"chroma-{chroma}", jpeg)
    for quality in (1, 50, 100):
        yield good(f"quality-{quality}", save(image, "JPEG", quality=quality), None)
    for value in range(1, 9):
        yield good(f"orientation-{value}", save(image, "JPEG", quality=92, exif=orientation(value)))
    yield good("progressive", save(image, "JPEG", quality=92, progressive=True))
    yield good("progressive-gray", save(image.convert("L"), "JPEG", progressive=True), None)
    yield good("optimized", save(image, "JPEG", quality=92, optimize=True))
    yield good("restarts", save(image, "JPEG", quality=92, restart_marker_blocks=1))
    yield good("progressive-restarts", save(image, "JPEG", progressive=True, restart_marker_rows=1))
    yield good("gray", save(image.convert("L"), "JPEG"), None)
    cmyk = save(image.convert("CMYK"), "JPEG", quality=95)
    yield good("cmyk", cmyk)
    yield good("cmyk-progressive", save(image.convert("CMYK"), "JPEG", progressive=True))
    yield good("ycck", changed(cmyk, 0xEE, lambda adobe: adobe[:-1] + b"\2"), None)
    yield good("cmyk-without-adobe", changed(cmyk, 0xEE, lambda _: None), None)
    yield good("rgb", save(image, "JPEG", quality=95, keep_rgb=True))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield good("color-profile", save(image, "JPEG", quality=92, icc_profile=srgb))
    yield good("long-profile", save(image, "JPEG", quality=92, icc_profile=srgb + bytes(900_000)))
    yield good("two-images", save(image, "MPO", save_all=True, append_images=[image]))
    thumbnail = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + plain
    yield good("thumbnail", with_first(plain, segment(0xE1, thumbnail)))
    yield good("long-comments", with_first(plain, segment(0xFE, b"word " * 13_000) * 40))
    yield good("long-notes", with_first(plain, segment(0xED, bytes(65_000)) * 40))
    yield good("bad-exif", with_first(plain, segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")))
    yield good("bad-profile", with_first(plain, segment(0xE2, b"ICC_PROFILE\0\5\2" + b"x" * 99)))
    yield good("without-jfif", changed(plain, 0xE0, lambda _: None))
    yield good("filled", with_first(plain, b"\xff" * 3000))
    trailers = {"text": b"<html>", "zeros": bytes(100_000), "jpeg": plain, "zip": b"PK\3\4" * 99}
    for name, trailer in trailers.items():
        yield good(f"trailing-{name}", plain + trailer)
    for name, (outcome, packed) in ENCODED.items():
        content = zlib.decompress(base64.b85decode("".join(packed)))
        yield OddFile(f"jpeg-{name}.JPEG", content, outcome)


def jpeg_damage() -> Iterator[OddFile]:
    image = Image.fromarray(drawing())
    jpeg = save(image, "JPEG", quality=95)
    progressive = save(image, "JPEG", quality=95, progressive=True)

    def bad(name: str, content: bytes, outcome: str = REJECTED) -> OddFile:
        return OddFile(f"jpeg-bad-{name}.JPEG", content, outcome)

    for share in (5, 20, 40, 60, 80, 95):
        yield bad(f"cut-{share}", jpeg[: len(jpeg) * share // 100])
    for share in (20, 60):
        yield bad(f"progressive-cut-{share}", progressive[: len(progressive) * share // 100])
    yield bad("no-end-marker", jpeg[:-2], EITHER)
    yield bad("progressive-no-end-marker", progressive[:-2], EITHER)
    start = jpeg.index(b"\xff\xda") + 14
    lots = random.Random(1)
    for number in range(8):
        place = lots.randrange(start, len(jpeg) - 20)
        yield bad(f"scan-{number}", at(jpeg, place, lots.randbytes(8)), EITHER)
    yield bad("scan-zeros", at(jpeg, start, bytes(len(jpeg) - start - 2)), EITHER)
    yield bad("scan-ones", at(jpeg, start, b"\xff" * 200), EITHER)
    yield bad("scan-missing", jpeg[:start] + b"\xff\xd9", EITHER)
    restarts = save(image, "JPEG", quality=95, restart_marker_blocks=1)
    yield bad("restart-missing", restarts.replace(b"\xff\xd3", b"", 1), EITHER)
    yield bad("restart-twice", restarts.replace(b"\xff\xd3", b"\xff\xd3\xff\xd3", 1), EITHER)
    yield bad("two-starts", b"\xff\xd8" + jpeg, EITHER)
    yield bad("five-starts", b"\xff\xd8" * 5 + jpeg, EITHER)
    yield bad("line-before", b"\n" + jpeg)
    yield bad("text-mode", jpeg.replace(b"\n", b"\r\n") if b"\n" in jpeg else b"\r" + jpeg, EITHER)
    yield bad("seven-bits", bytes(byte & 127 for byte in jpeg))
    yield bad("start-only", b"\xff\xd8")
    yield bad("start-and-end", b"\xff\xd8\xff\xd9")
    yield bad("header-only", jpeg[: jpeg.index(b"\xff\xda")])
    for name, code in (("frame", 0xC0), ("quantization", 0xDB)):
        yield bad(f"no-{name}", changed(jpeg, code, lambda _: None))
    yield bad("no-huffman", changed(jpeg, 0xC4, lambda _: None), EITHER)
    yield bad("huffman-overfull", changed(jpeg, 0xC4, lambda t: t[:1] + b"\xff" * 16 + t[17:]))
    yield bad("huffman-empty", changed(jpeg, 0xC4, lambda t: t[:1] + bytes(16)), EITHER)
    yield bad("huffman-class-9", changed(jpeg, 0xC4, lambda t: b"\x99" + t[1:]))
    yield bad("quantization-cut", changed(jpeg, 0xDB, lambda t: t[:20]))
    for name, place, new in (
        ("rows-0", 1, b"\0\0"),
        ("columns-0", 3, b"\0\0"),
        ("components-0", 5, b"\0"),
        ("components-5", 5, b"\5"),
        ("components-255", 5, b"\xff"),
        ("bits-2", 0, b"\2"),
        ("bits-12", 0, b"\x0c"),
        ("bits-16", 0, b"\x10"),
        ("sampling-0", 7, b"\0"),
        ("sampling-f", 7, b"\xff"),
        ("missing-table", 8, b"\3"),
        ("65535-square", 1, b"\xff\xff\xff\xff"),
    ):
        yield bad(name, changed(jpeg, 0xC0, lambda f, p=place, n=new: at(f, p, n)))
    more = struct.pack(">H", 4 * HEIGHT)
    yield bad("rows-x4", changed(jpeg, 0xC0, lambda f: at(f, 1, more)), EITHER)
    yield bad("rows-half", changed(jpeg, 0xC0, lambda f: at(f, 1, b"\0\x18")), EITHER)
    yield bad("components-2", changed(jpeg, 0xC0, lambda f: at(f, 5, b"\2")), EITHER)
    lines = segment(0xDC, struct.pack(">H", HEIGHT))
    without = changed(jpeg, 0xC0, lambda f: at(f, 1, b"\0\0"))
    yield bad("rows-later", without[:-2] + lines + b"\xff\xd9")
    for code in (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF):
        yield bad(f"frame-{code:x}", jpeg.replace(b"\xff\xc0", bytes((0xFF, code)), 1))
    for code in (0xC1, 0xC2, 0xC9, 0xCA):
        yield bad(f"frame-{code:x}", jpeg.replace(b"\xff\xc0", bytes((0xFF, code)), 1), EITHER)
    frame = next(content for code, content in jpeg_parts(jpeg) if code == 0xC0)
    yield bad("two-frames", with_first(jpeg, segment(0xC0, frame)))
    other = at(frame, 1, b"\x40\0\x40\0")
    yield bad("two-frames-that-differ", with_first(jpeg, segment(0xC0, other)))
    yield bad("note-too-long", jpeg[:2] + b"\xff\xe1\xff\xff" + jpeg[2:])
    yield bad("note-of-0", with_first(jpeg, b"\xff\xe1\0\0"), EITHER)
    yield bad("20000-notes", with_first(jpeg, segment(0xE5) * 20_000), EITHER)
    yield bad("unknown-marker", with_first(jpeg, segment(0x05, b"what")), EITHER)
    yield bad("rubbish-between", with_first(jpeg, b"rubbish" * 9), EITHER)


def scans(code: int, count: int, components: bytes = b"\1") -> bytes:
    """Return empty scans: of one component's higher frequencies, or of all the averages."""
    band = (1, 63) if len(components) == 1 else (0, 0)
    listed = b"".join(bytes((number, 0)) for number in components)
    return segment(code, bytes((len(components),)) + listed + bytes((*band, 0))) * count


def with_scans(jpeg: bytes, extra: bytes) -> bytes:
    return jpeg[:-2] + extra + b"\xff\xd9"


def jpeg_costs(large: bool) -> Iterator[OddFile]:
    """Make images that a decoder would work on for long, or not find room for."""
    side = 4000 if large else 150
    flat = Image.new("RGB", (side, side), (90, 120, 33))
    progressive = save(flat, "JPEG", progressive=True)
    outcome = REJECTED if large else EITHER
    for count in (1000, 30_000):
        bomb = with_scans(progressive, scans(0xDA, count))
        yield OddFile(f"jpeg-{count}-scans.JPEG", bomb, EITHER if count == 1000 else outcome)
    bomb = with_scans(progressive, scans(0xDA, 30_000, b"\1\2\3"))
    yield OddFile("jpeg-30000-scans-of-averages.JPEG", bomb, outcome)
    bomb = with_scans(progressive, b"\xff\xff" + scans(0xDA, 30_000) + b"tail")
    yield OddFile("jpeg-30000-scans-and-tail.JPEG", bomb, outcome)
    one_each = one_scan_each(save(flat, "JPEG"))
    yield OddFile("jpeg-plain-30000-scans.JPEG", with_scans(one_each, scans(0xDA, 30_000)), outcome)
    pixels = drawing(side // 2, side // 2)
    jpeg = simplejpeg.encode_jpeg(pixels, quality=30)
    frame = next(content for code, content in jpeg_parts(jpeg) if code == 0xC0)
    claims = (("40000-square", b"\x9c\x40\x9c\x40"), ("12000-square", b"\x2e\xe0\x2e\xe0"))
    for name, claim in claims:
        bomb = changed(jpeg, 0xC0, lambda _, c=claim: at(frame, 1, c))
        yield OddFile(f"jpeg-claims-{name}.JPEG", bomb, REJECTED)
    yield OddFile("jpeg-fill-bytes.JPEG", with_first(jpeg, b"\xff" * (side * 1000)), WRITTEN)
    yield OddFile("jpeg-large.JPEG", jpeg, WRITTEN, pixels)
    if large:
        gray = simplejpeg.encode_jpeg(np.zeros((11_000, 11_000, 1), np.uint8), 50, "GRAY", "Gray")
        yield OddFile("jpeg-11000-square.JPEG", gray, EITHER)
        wide = save(Image.new("RGB", (9000, 9000), "navy"), "JPEG", progressive=True)
        yield OddFile("jpeg-9000-square-progressive.JPEG", wide, EITHER)
        inks = save(Image.new("CMYK", (7000, 7000)), "JPEG", progressive=True)
        yield OddFile("jpeg-7000-square-inks-progressive.JPEG", inks, EITHER)


def one_scan_each(jpeg: bytes) -> bytes:
    """Return a plain JPEG whose first scan holds one component of three: the rest is missing."""
    *tables, (code, scan) = jpeg_parts(jpeg)
    length = struct.unpack_from(">H", scan)[0]
    alone = struct.pack(">HB", 8, 1) + scan[3:5] + scan[length - 3 : length]
    return join_jpeg([*tables, (code, alone + scan[length:])])


# --- PNG


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(
    width: int, height: int, bits: int, color: int, rows: bytes, *more: bytes, laced=0
) -> bytes:
    """Return a PNG of filter-0 rows; `more` are chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, laced)
    data = chunk(b"IDAT", zlib.compress(rows, 9))
    return SIGNATURE + chunk(b"IHDR", header) + b"".join(more) + data + chunk(b"IEND")


def filtered(pixels: np.ndarray) -> bytes:
    """Return rows of any dtype with the filter byte before each."""
    big = pixels.astype(pixels.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for row in big)


def laced_rows(pixels: np.ndarray) -> bytes:
    """Return the seven passes of Adam7."""
    passes = (
        (0, 8, 0, 8),
        (0, 8, 4, 8),
        (4, 8, 0, 4),
        (0, 4, 2, 4),
        (2, 4, 0, 2),
        (0, 2, 1, 2),
        (1, 2, 0, 1),
    )
    return b"".join(filtered(pixels[y::dy, x::dx]) for y, dy, x, dx in passes)


def png_kinds() -> Iterator[OddFile]:
    pixels = drawing()
    image = Image.fromarray(pixels)
    gray = pixels.mean(axis=2).astype(np.uint8)

    def good(name: str, content: bytes, drawn: np.ndarray | None = pixels) -> OddFile:
        return OddFile(f"png-{name}.PNG", content, WRITTEN, drawn)

    gray_drawn = gray[..., None].repeat(3, axis=2)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        drawn = {"1": None, "L": gray_drawn, "LA": gray_drawn, "P": None}.get(mode, pixels)
        yield good(f"mode-{mode}", save(image.convert(mode), "PNG"), drawn)
    for colors in (2, 4, 16, 250):
        yield good(f"palette-{colors}", save(image.quantize(colors), "PNG"), None)
    palette = image.quantize(200)
    yield good("palette-transparent", save(palette, "PNG", transparency=7), None)
    yield good("palette-alpha", save(palette, "PNG", transparency=bytes(range(200))), None)
    yield good("rgb-transparent", save(image, "PNG", transparency=(30, 30, 30)), None)
    yield good("gray-transparent", save(image.convert("L"), "PNG", transparency=100), None)
    clear = np.dstack([pixels, np.zeros((HEIGHT, WIDTH), np.uint8)])
    yield good("all-transparent", save(clear, "PNG"), np.full_like(pixels, 255))
    for laced in (0, 1):
        rows = laced_rows if laced else filtered
        wide, wide_gray = pixels.astype(np.uint16) * 257, gray.astype(np.uint16) * 257
        alpha = np.full((HEIGHT, WIDTH, 1), 65_535, np.uint16)
        for name, color, samples, drawn in (
            ("gray", 0, wide_gray, gray_drawn),
            ("rgb", 2, wide, pixels),
            ("gray-alpha", 4, np.dstack([wide_gray, alpha]), gray_drawn),
            ("rgba", 6, np.dstack([wide, alpha]), pixels),
        ):
            content = png(WIDTH, HEIGHT, 16, color, rows(samples), laced=laced)
            yield good(f"16-bit-{name}-{'laced' if laced else 'plain'}", content, drawn)
        content = png(WIDTH, HEIGHT, 8, 2, rows(pixels), laced=laced)
        yield good(f"8-bit-{'laced' if laced else 'plain'}", content)
    yield good(
        "animated",
        save(image, "PNG", save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))]),
    )
    yield good("orientation-6", save(image, "PNG", exif=orientation(6)))
    rows = filtered(pixels)
    gamma = chunk(b"gAMA", struct.pack(">I", 20_000))
    yield good("gamma", png(WIDTH, HEIGHT, 8, 2, rows, gamma))
    yield good("private-chunk", png(WIDTH, HEIGHT, 8, 2, rows, chunk(b"prVt", bytes(99))))
    plain = save(image, "PNG")
    yield good("trailing", plain + b"more")
    start = plain.index(b"IDAT") - 4
    yield good("empty-data-first", plain[:start] + chunk(b"IDAT") * 500 + plain[start:])
    data = zlib.compress(rows)
    pieces = b"".join(chunk(b"IDAT", data[i : i + 1]) for i in range(len(data)))
    head, end = plain[:33], chunk(b"IEND")
    yield good("one-byte-data", head + pieces + end)
    yield good("data-to-spare", head + chunk(b"IDAT", zlib.compress(rows + bytes(9999))) + end)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("Comment", "word " * 9999, zip=True)
    yield good("text", save(image, "PNG", pnginfo=info))
    yield good("named-jpeg.JPEG", plain)


def png_damage() -> Iterator[OddFile]:
    image = Image.fromarray(drawing())
    plain, rows = save(image, "PNG"), filtered(drawing())

    def bad(name: str, content: bytes, outcome: str = REJECTED) -> OddFile:
        return OddFile(f"png-bad-{name}.png", content, outcome)

    for share in (5, 30, 60, 90):
        yield bad(f"cut-{share}", plain[: len(plain) * share // 100])
    yield bad("no-end", plain[:-12], EITHER)
    yield bad("text-mode", plain.replace(b"\r\n", b"\n"))
    yield bad("seven-bits", bytes(byte & 127 for byte in plain))
    yield bad("signature-only", SIGNATURE)
    data = plain.index(b"IDAT")
    yield bad("no-data", plain[: data - 4] + chunk(b"IEND"))
    yield bad("header-crc", at(plain, 29, b"\0\0\0\0"))
    yield bad("data-byte", at(plain, data + 40, bytes((plain[data + 40] ^ 255,))))
    noted = png(WIDTH, HEIGHT, 8, 2, rows, chunk(b"tEXt", b"a\0b"))
    place = noted.index(b"tEXt") + 7
    yield bad("note-crc", at(noted, place, b"\0\0\0\0"), EITHER)
    header = plain[:33]
    yield bad("data-rubbish", header + chunk(b"IDAT", b"rubbish" * 50) + chunk(b"IEND"))
    short = zlib.compress(rows[: len(rows) // 2])
    yield bad("data-short", header + chunk(b"IDAT", short) + chunk(b"IEND"))
    yield bad("no-header", SIGNATURE + plain[33:])
    yield bad("two-headers", SIGNATURE + plain[8:33] * 2 + plain[33:], EITHER)
    yield bad("chunk-length", at(plain, data - 4, b"\x7f\xff\xff\xff"), EITHER)
    for name, fields in (
        ("width-0", (0, HEIGHT, 8, 2)),
        ("height-0", (WIDTH, 0, 8, 2)),
        ("bits-3", (WIDTH, HEIGHT, 3, 0)),
        ("color-5", (WIDTH, HEIGHT, 8, 5)),
        ("bits-1-rgb", (WIDTH, HEIGHT, 1, 2)),
        ("2147483647-square", (2**31 - 1, 2**31 - 1, 8, 2)),
        ("width-4294967295", (2**32 - 1, 1, 8, 2)),
    ):
        yield bad(name, png(*fields, rows))
    yield bad("no-palette", png(WIDTH, HEIGHT, 8, 3, filtered(drawing()[..., 0])), EITHER)
    small = chunk(b"PLTE", bytes(range(9)))
    yield bad(
        "beyond-palette", png(WIDTH, HEIGHT, 8, 3, filtered(drawing()[..., 0]), small), EITHER
    )
    for name, signature in (("mng", b"\x8aMNG\r\n\x1a\n"), ("jng", b"\x8bJNG\r\n\x1a\n")):
        yield bad(name, signature + plain[8:])
    apple = SIGNATURE + chunk(b"CgBI", b"\x50\0\x20\2") + plain[8:]
    yield bad("apple", apple, EITHER)


def png_costs(large: bool) -> Iterator[OddFile]:
    pixels = drawing()
    rows, unit = filtered(pixels), (50 << 20) if large else (2 << 20)
    packed = zlib.compress(bytes(unit), 9)
    for name, note in (
        ("ztxt", chunk(b"zTXt", b"Comment\0\0" + packed)),
        ("itxt", chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed)),
        ("profile", chunk(b"iCCP", b"name\0\0" + packed)),
        ("raw-exif", chunk(b"zTXt", b"Raw profile type exif\0\0" + packed)),
        ("20-ztxt", chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 20), 9)) * 20),
        ("50000-notes", chunk(b"tEXt", b"a\0b") * 50_000),
        ("50000-unknown", chunk(b"abCd") * 50_000),
        ("exif", chunk(b"eXIf", b"II*\0\x08\0\0\0" + b"\xff" * 9999)),
    ):
        yield OddFile(f"png-{name}.png", png(WIDTH, HEIGHT, 8, 2, rows, note), WRITTEN, pixels)
    yield OddFile(
        "png-300000-unknown.png", png(WIDTH, HEIGHT, 8, 2, rows, chunk(b"abCd") * 300_000), EITHER
    )
    empty = zlib.compress(bytes(1 << 20), 9)
    for side in (20_000, 60_000, 200_000):
        header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        bomb = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", empty) + chunk(b"IEND")
        yield OddFile(f"png-{side}-square.png", bomb, REJECTED)
    if large:
        for color, channels in ((0, 1), (2, 3), (6, 4)):
            bomb = png(9000, 9000, 8, color, bytes((9000 * channels + 1) * 9000))
            yield OddFile(f"png-9000-square-{channels}.png", bomb, EITHER)
        bomb = png(12_490, 12_490, 8, 0, bytes(12_491 * 12_490))
        yield OddFile("png-156-megapixels.png", bomb, REJECTED)
        bomb = png(5000, 5000, 16, 6, bytes((5000 * 8 + 1) * 5000))
        yield OddFile("png-5000-square-16-bit.png", bomb, EITHER)


# --- the others


def gifs(large: bool) -> Iterator[OddFile]:
    image = Image.fromarray(drawing())
    black = Image.new("RGB", image.size)
    plain = save(image.quantize(200), "GIF")
    table = 13 + 3 * 256
    for name, content in {
        "plain": plain,
        "87a": plain.replace(b"GIF89a", b"GIF87a", 1),
        "gray": save(image.convert("L"), "GIF"),
        "transparent": save(image.quantize(200), "GIF", transparency=3),
        "animated": save(image, "GIF", save_all=True, append_images=[black, image], loop=0),
        "disposed": save(image, "GIF", save_all=True, append_images=[black], disposal=2),
        "straight": save(image.quantize(200), "GIF", interlace=False),
        "comment": save(image.quantize(200), "GIF", comment=b"word " * 9999),
        "trailing": plain + b"more",
        "1x1": save(Image.new("L", (1, 1)), "GIF"),
    }.items():
        yield OddFile(f"gif-{name}.gif", content, WRITTEN)
    for share in (10, 50, 80):
        yield OddFile(f"gif-bad-cut-{share}.gif", plain[: len(plain) * share // 100], REJECTED)
    extension = b"!\xfe" + b"\xff" + b"c" * 255 + b"\0"
    many = 200_000 if large else 2000
    for name, content, outcome in (
        ("header", b"GIF89a", REJECTED),
        ("no-image", plain[:table] + b";", REJECTED),
        ("no-palette", at(plain, 10, b"\0")[:13] + plain[table:], EITHER),
        ("size-0", at(plain, 6, b"\0\0\0\0"), EITHER),
        ("65535-square", at(plain, 6, b"\xff\xff\xff\xff"), REJECTED),
        ("code-size-0", plain.replace(b"\x08", b"\x00", 1), EITHER),
        ("rubbish", at(plain, table + 30, b"\xaa" * 300), EITHER),
        ("comments", plain[:table] + extension * (many // 10) + plain[table:], EITHER),
        ("tiny-blocks", plain[:table] + b"!\xfe" + b"\1c" * many + b"\0" + plain[table:], EITHER),
        ("extensions", plain[:table] + b"!\xff\0" * many + plain[table:], EITHER),
    ):
        yield OddFile(f"gif-odd-{name}.gif", content, outcome)
    frame = plain.index(b",", table)
    far = at(plain, frame + 1, struct.pack("<4H", 60_000, 60_000, 5000, 5000))
    yield OddFile("gif-odd-frame-far-out.gif", far, REJECTED)


def webps() -> Iterator[OddFile]:
    pixels = drawing()
    image = Image.fromarray(pixels)
    plain = save(image, "WEBP", quality=90)
    for name, content in {
        "lossy": plain,
        "lossless": save(image, "WEBP", lossless=True),
        "alpha": save(image.convert("RGBA"), "WEBP", quality=90),
        "animated": save(
            image, "WEBP", save_all=True, append_images=[Image.new("RGB", image.size)]
        ),
        "orientation-6": save(image, "WEBP", exif=orientation(6), quality=90),
        "profile": save(image, "WEBP", icc_profile=bytes(99_999), quality=90),
    }.items():
        yield OddFile(f"webp-{name}.webp", content, WRITTEN, pixels)
    for share in (5, 40, 90):
        yield OddFile(f"webp-bad-cut-{share}.webp", plain[: len(plain) * share // 100], REJECTED)
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\xff" * 2
    vp8l = b"VP8L" + struct.pack("<I", 20) + b"\x2f" + b"\xff\xff\xff\x0f" + bytes(15)
    for name, body, outcome in (
        ("canvas-16777216", canvas + plain[12:], REJECTED),
        ("lossless-16384", vp8l, REJECTED),
        ("no-body", b"", REJECTED),
        ("wave", b"fmt " + bytes(40), REJECTED),
    ):
        kind = b"WAVE" if name == "wave" else b"WEBP"
        content = b"RIFF" + struct.pack("<I", len(body) + 4) + kind + body
        yield OddFile(f"webp-bad-{name}.webp", content, outcome)
    yield OddFile("webp-bad-byte.webp", at(plain, 40, bytes(20)), EITHER)


def bmp(
    width: int, height: int, bits: int, packing: int, data: bytes, colors: bytes = b""
) -> bytes:
    fields = (40, width, height, 1, bits, packing, len(data), 0, 0, len(colors) // 4, 0)
    start = 14 + 40 + len(colors)
    header = struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start)
    return header + struct.pack("<IiiHHIIiiII", *fields) + colors + data


def bmps(large: bool) -> Iterator[OddFile]:
    pixels = drawing()
    image = Image.fromarray(pixels)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        drawn = pixels if mode.startswith("RGB") else None
        yield OddFile(f"bmp-mode-{mode}.bmp", save(image.convert(mode), "BMP"), WRITTEN, drawn)
    blue_first = np.ascontiguousarray(pixels[..., ::-1])
    upside = bmp(WIDTH, -HEIGHT, 24, 0, blue_first.tobytes())
    yield OddFile("bmp-top-down.bmp", upside, WRITTEN, pixels)
    gray = bytes(value for level in range(256) for value in (level, level, level, 0))
    runs = b"".join(b"\x40" + bytes((4 * y,)) + b"\0\0" for y in range(HEIGHT)) + b"\0\1"
    yield OddFile("bmp-run-length-8.bmp", bmp(WIDTH, HEIGHT, 8, 1, runs, gray), WRITTEN)
    yield OddFile("bmp-run-length-4.bmp", bmp(WIDTH, HEIGHT, 4, 2, runs, gray[:64]), WRITTEN)
    five = ((pixels[..., 0] >> 3).astype("<u2") << 10) | (pixels[..., 2] >> 3)
    yield OddFile("bmp-15-bit.bmp", bmp(WIDTH, HEIGHT, 16, 0, five.tobytes()), WRITTEN)
    plain = save(image, "BMP")
    for share in (1, 50, 95):
        yield OddFile(f"bmp-bad-cut-{share}.bmp", plain[: len(plain) * share // 100], REJECTED)
    side = 4000 if large else 200
    ends = b"\1\7\0\0" * side
    for name, content, outcome in (
        ("60000-square", bmp(60_000, 60_000, 24, 0, bytes(99)), REJECTED),
        ("width-0", bmp(0, 9, 24, 0, bytes(99)), REJECTED),
        ("width-negative", bmp(-9, 9, 24, 0, bytes(999)), REJECTED),
        ("bits-0", bmp(9, 9, 0, 0, bytes(999)), REJECTED),
        ("bits-7", bmp(9, 9, 7, 0, bytes(999)), REJECTED),
        ("packing-9", bmp(9, 9, 24, 9, bytes(999)), REJECTED),
        ("start-beyond", at(plain, 10, b"\xff\xff\xff\x0f"), REJECTED),
        ("colors-many", at(bmp(9, 9, 8, 0, bytes(999)), 46, b"\xff\xff\xff\x7f"), REJECTED),
        ("header-only", plain[:54], REJECTED),
        ("run-length-ends", bmp(side, side, 8, 1, ends, gray), EITHER),
        ("run-length-11000-square", bmp(11_000, 11_000, 8, 1, ends, gray), REJECTED),
        ("run-length-jumps", bmp(side, side, 8, 1, b"\0\2\xff\xff" * 999, gray), EITHER),
    ):
        yield OddFile(f"bmp-odd-{name}.bmp", content, outcome)


def tags(*entries: tuple[int, int, int, bytes], after: bytes = b"") -> bytes:
    """Return a little-endian TIFF of one directory; a value is four bytes, as they stand."""
    listed = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + listed + bytes(4) + after


def strip_tags(width: int, height: int, packing: int, data: bytes, *more, rows=None) -> bytes:
    number = lambda value: struct.pack("<I", value)  # noqa: E731
    start = 8 + 2 + 12 * (8 + len(more)) + 4
    entries = [
        (256, 4, 1, number(width)),
        (257, 4, 1, number(height)),
        (258, 3, 1, number(8)),
        (259, 3, 1, number(packing)),
        (262, 3, 1, number(1)),
        (273, 4, 1, number(start)),
        (278, 4, 1, number(rows or height)),
        (279, 4, 1, number(len(data))),
    ]
    return tags(*sorted([*entries, *more]), after=data)


def tiffs(large: bool) -> Iterator[OddFile]:
    pixels = drawing()
    image = Image.fromarray(pixels)
    gray = pixels.mean(axis=2).astype(np.uint8)
    gray_drawn = gray[..., None].repeat(3, axis=2)

    def good(name: str, content: bytes, drawn: np.ndarray | None = pixels) -> OddFile:
        return OddFile(f"tiff-{name}.tif", content, WRITTEN, drawn)

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"):
        drawn = None if mode in ("1", "P") else gray_drawn if mode in ("L", "LA") else pixels
        yield good(f"mode-{mode}", save(image.convert(mode), "TIFF"), drawn)
    wide = gray.astype(np.uint16) * 257
    yield good("16-bit", save(wide, "TIFF"), gray_drawn)
    big = Image.frombytes("I;16B", (WIDTH, HEIGHT), wide.astype(">u2").tobytes())
    yield good("16-bit-big-endian", save(big, "TIFF"), gray_drawn)
    yield OddFile("tiff-32-bit.tif", save(wide.astype(np.int32), "TIFF"), WRITTEN, gray_drawn)
    yield OddFile("tiff-32-bit-low.tif", save(gray.astype(np.int32), "TIFF"), WRITTEN, gray_drawn)
    for name, levels in (("low", gray / 255), ("wide", gray * 1.0), ("nan", gray * np.nan)):
        yield OddFile(f"tiff-float-{name}.tif", save(levels.astype(np.float32), "TIFF"), EITHER)
    yield OddFile("tiff-32-bit-high.tif", save(wide.astype(np.int32) * 9999, "TIFF"), REJECTED)
    for packing in (
        "tiff_lzw",
        "tiff_deflate",
        "tiff_adobe_deflate",
        "packbits",
        "jpeg",
        "zstd",
        "lzma",
    ):
        yield good(packing, save(image, "TIFF", compression=packing))
    yield good("group4", save(image.convert("1"), "TIFF", compression="group4"), None)
    yield good("pages", save(image, "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))]))
    yield good("large-offsets", save(image, "TIFF", big_tiff=True))
    for value in (2, 6):
        yield good(f"orientation-{value}", save(image, "TIFF", exif=orientation(value)), None)
    notes = TiffImagePlugin.ImageFileDirectory_v2()
    notes[270], notes[34377] = "word " * 9999, bytes(99_999)
    yield good("notes", save(image, "TIFF", tiffinfo=notes))
    plain = save(image, "TIFF")
    packed = save(image, "TIFF", compression="tiff_lzw")
    for share in (1, 40, 90):
        yield OddFile(f"tiff-bad-cut-{share}.tif", plain[: len(plain) * share // 100], REJECTED)
        yield OddFile(f"tiff-bad-lzw-{share}.tif", packed[: len(packed) * share // 100], REJECTED)
    levels, loop = gray.tobytes(), struct.pack("<I", 8)
    count = struct.pack("<I", 8)
    for name, content, outcome in (
        ("own", strip_tags(WIDTH, HEIGHT, 1, levels), WRITTEN),
        ("width-0", strip_tags(0, HEIGHT, 1, levels), REJECTED),
        ("60000-square", strip_tags(60_000, 60_000, 1, levels), REJECTED),
        ("packing-9999", strip_tags(WIDTH, HEIGHT, 9999, levels), REJECTED),
        ("no-strips", tags((256, 4, 1, count), (257, 4, 1, count)), REJECTED),
        ("no-tags", tags(), REJECTED),
        ("header", b"II*\0", REJECTED),
        ("directory-beyond", b"II*\0\xff\xff\xff\x7f", REJECTED),
        ("exif-loop", strip_tags(WIDTH, HEIGHT, 1, levels, (34665, 4, 1, loop)), EITHER),
        ("two-billion-notes", strip_tags(WIDTH, HEIGHT, 1, levels, (700, 3, 2**31, loop)), EITHER),
        ("samples-128", strip_tags(WIDTH, HEIGHT, 1, levels, (277, 3, 1, b"\x80\0\0\0")), REJECTED),
        ("bits-many", strip_tags(WIDTH, HEIGHT, 1, levels, (339, 3, 2**20, loop)), EITHER),
        ("jpeg-rubbish", strip_tags(WIDTH, HEIGHT, 7, levels), REJECTED),
        ("old-jpeg", strip_tags(WIDTH, HEIGHT, 6, levels), REJECTED),
    ):
        yield OddFile(f"tiff-odd-{name}.tif", content, outcome)
    yield OddFile(
        "tiff-odd-overlapping-tags.tif", overlapping_tags(60_000 if large else 3000), EITHER
    )
    many = 2_000_000 if large else 200_000
    starts = struct.pack("<I", 8 + 2 + 8 * 12 + 4) * many
    bomb = strip_tags(WIDTH, many, 1, starts, rows=1)
    for tag in (273, 279):
        entry = bomb.index(struct.pack("<HHI", tag, 4, 1))
        bomb = at(bomb, entry, struct.pack("<HHII", tag, 4, many, 8 + 2 + 8 * 12 + 4))
    yield OddFile("tiff-odd-many-strips.tif", bomb, EITHER)
    side = 4000 if large else 150
    flat = save(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    for count in (1, 30_000):
        jpeg = with_scans(flat, scans(0xDA, count))
        outcome = WRITTEN if count == 1 else REJECTED if large else EITHER
        content = strip_tags(side, side, 7, jpeg)
        yield OddFile(f"tiff-odd-jpeg-{count}-scans.tif", content, outcome)


def overlapping_tags(count: int) -> bytes:
    """Return a TIFF that claims its own bytes as the value of each of `count` tags."""
    size = struct.pack("<I", 0)
    entries = [(1000 + number, 7, 12 * count, size) for number in range(count)]
    return tags(*entries, after=bytes(99))


def other_formats() -> Iterator[OddFile]:
    image = Image.fromarray(drawing())
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    contents = {
        "empty": b"",
        "one-byte": b"\xff",
        "zeros": bytes(99_999),
        "noise": random.Random(2).randbytes(9999),
        "newline": b"\n",
        "text": b"not an image at all\n",
        "html": b"<!DOCTYPE html><html>404 Not Found</html>",
        "json": b'{"error": "rate limited"}',
        "lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "eps": postscript,
        "eps-indented": b"\n  " + postscript,
        "eps-windows": b"\xc5\xd0\xd3\xc6"
        + struct.pack("<II", 30, len(postscript))
        + bytes(18)
        + postscript,
        "eps-saved": save(image, "EPS"),
        "postscript": b"%!PS\n(/bin/true) (r) file\n",
        "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n",
        "svg": svg,
        "svg-xml": b"<?xml version='1.0'?>\n" + svg,
        "svg-entities": b"<!DOCTYPE svg [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>" + svg,
        "psd": b"8BPS\0\1" + bytes(99),
        "ppm": save(image, "PPM"),
        "tga": save(image, "TGA"),
        "ico": save(image, "ICO", sizes=[(16, 16)]),
        "icns": b"icns" + bytes(99),
        "jpeg-2000": save(image, "JPEG2000"),
        "avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(99),
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
        "dds": save(image.convert("RGBA"), "DDS"),
        "pcx": save(image, "PCX"),
        "sgi": save(image, "SGI"),
        "msp": save(image.convert("1"), "MSP"),
        "xbm": save(image.convert("1"), "XBM"),
        "fits": b"SIMPLE  =                    T" + b" " * 2850,
        "wmf": b"\xd7\xcd\xc6\x9a" + bytes(99),
        "emf": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(99),
        "mp4": b"\0\0\0\x18ftypmp42" + bytes(99),
        "mpeg": b"\0\0\1\xb3" + bytes(99),
        "zip": b"PK\3\4" + bytes(99),
        "gzip": zlib.compress(b"x" * 99, wbits=31),
        "tar": b"a.jpg" + bytes(252) + b"ustar" + bytes(9999),
        "pickle": b"\x80\4cos\nsystem\n(S'true'\ntR.",
        "numpy": b"\x93NUMPY\1\0" + bytes(99),
        "program": b"\x7fELF\2\1\1" + bytes(99),
        "script": b"#!/bin/sh\ntouch /tmp/owned\n",
        "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(99),
        "riff": b"RIFF",
        "bm": b"BM",
    }
    for name, content in contents.items():
        yield OddFile(f"other-{name}.JPEG", content, REJECTED)


def sizes(large: bool) -> Iterator[OddFile]:
    far = 65_500 if large else 2000
    for height, width in (
        (1, 1), (1, 2), (2, 1), (1, 100), (100, 1), (1, far), (far, 1), (2, far), (far, 2),
        (256, 256), (255, 257), (257, 256), (256, 4000), (4000, 256), (16, 17), (8, 8),
    ):  # fmt: skip
        pixels = drawing(height, width)
        drawn = pixels if max(height, width) < 3 * min(height, width) and height > 2 else None
        yield OddFile(
            f"size-{width}x{height}.JPEG", save(pixels, "JPEG", quality=95), WRITTEN, drawn
        )
        yield OddFile(f"size-{width}x{height}.png", save(pixels, "PNG"), WRITTEN, drawn)
    yield OddFile("size-300000x1.png", save(Image.new("L", (300_000, 1)), "PNG"), EITHER)
    yield OddFile("size-1x300000.png", save(Image.new("L", (1, 300_000)), "PNG"), EITHER)

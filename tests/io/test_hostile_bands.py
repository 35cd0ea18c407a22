"""TIFFs that would cost far more time or memory than their size says are refused before they are decoded."""

import io
import struct

import numpy as np
import pytest
import tifffile

from fcn.io import images
from fcn.runtime.errors import UserError

BANDS = np.random.default_rng(0).integers(0, 256, (40, 50, 5), np.uint8)


def tiff(**how: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, BANDS, photometric="minisblack", planarconfig="contig", metadata=None, **how)  # type: ignore[arg-type]
    return file.getvalue()


def pages(count: int) -> bytes:
    """A TIFF of pages without tags, each of which names the next one."""
    chain = (struct.pack("<HI", 0, 8 + 6 * (i + 1) if i + 1 < count else 0) for i in range(count))
    return b"II*\0" + struct.pack("<I", 8) + b"".join(chain)


def packbits() -> bytes:
    """A TIFF whose data are said to be PackBits."""
    whole = bytearray(tiff())
    with tifffile.TiffFile(io.BytesIO(whole)) as file:
        at = file.pages[0].tags["Compression"].valueoffset  # type: ignore[union-attr]
    whole[at : at + 2] = (32773).to_bytes(2, "little")
    return bytes(whole)


def overlapping() -> bytes:
    """Five strips of eight rows, deflated; all but the first begin where the first does, and are as long."""
    whole = bytearray(tiff(compression="zlib", rowsperstrip=8))
    with tifffile.TiffFile(io.BytesIO(whole)) as file:
        page = file.pages[0]
        for name, number in (("StripOffsets", page.dataoffsets[0]), ("StripByteCounts", len(whole))):  # type: ignore[union-attr]
            tag = page.tags[name]  # type: ignore[union-attr]
            size = {3: 2, 4: 4}[tag.dtype]
            for k in range(tag.count):
                at = tag.valueoffset + k * size
                whole[at : at + size] = int(number).to_bytes(size, "little")
    return bytes(whole)


def test_bands_in_deflated_strips_are_read() -> None:
    assert np.array_equal(images.bands(tiff(compression="zlib", rowsperstrip=8), "a.tif"), BANDS)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (pages(2000), "a.tif cannot be decoded (it has more than 1024 pages)"),
        (overlapping(), "a.tif cannot be decoded (its strips or tiles overlap)"),
        (packbits(), "a.tif cannot be decoded (its data are longer than its size says, or"),
    ],
)
def test_others_are_refused_in_one_line(content: bytes, line: str) -> None:
    with pytest.raises(UserError) as caught:
        images.bands(content, "a.tif")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_no_page_beyond_the_limit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = [0]
    opened = tifffile.TiffFile

    class Counting(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            read[0] += 1
            return super().seek(offset, whence)

    monkeypatch.setattr(tifffile, "TiffFile", lambda file: opened(Counting(file.getvalue())))
    with pytest.raises(UserError, match="pages"):
        images.bands(pages(100_000), "a.tif")
    assert read[0] < 10 * images.MAX_PAGES

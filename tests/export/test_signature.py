"""The signature of an exported folder."""

import random
import shutil
from pathlib import Path

import pytest
from conftest import Fcn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from keys import keys

from fcn.export import signature
from fcn.runtime.errors import UserError

FILES = {"model.safetensors": 3000, "model.onnx": 2000, "README.md": 500, "labels.json": 300}


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """A folder with the names of an export, signed with `ours.pem`."""
    private, _ = keys(tmp_path, "ours")
    folder, content = tmp_path / "signed", random.Random(1)
    folder.mkdir()
    for name, size in FILES.items():
        (folder / name).write_bytes(content.randbytes(size))
    signature.sign(folder, signature.signer(private))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        signature.check(folder, folder.parent / "ours.pub.pem")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_as_it_was_signed_also_under_another_name(signed: Path, fcn: Fcn) -> None:
    moved = signed.parent / "elsewhere" / "copy"
    shutil.copytree(signed, moved)
    (moved / ".gitattributes").write_text("*.onnx filter=lfs\n")  # git's own files are not part of it
    out, _, code = fcn("export", "--check", "elsewhere/copy", "--key", "ours.pub.pem")
    assert code == 0
    assert out == "elsewhere/copy is as it was signed with the key of ours.pub.pem\n"


def test_a_thousand_random_byte_flips_are_refused(signed: Path) -> None:
    draw = random.Random(2)
    paths = sorted(signed.iterdir())
    assert len(paths) == len(FILES) + 1
    for _ in range(1000):
        path = draw.choice(paths)
        content = path.read_bytes()
        at, bit = draw.randrange(len(content)), draw.randrange(8)
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
        assert refusal(signed)
        path.write_bytes(content)
    signature.check(signed, signed.parent / "ours.pub.pem")


def test_a_file_changed_added_or_removed_is_refused_by_name(signed: Path) -> None:
    content = (signed / "README.md").read_bytes()
    (signed / "README.md").write_bytes(content + b"!")
    assert refusal(signed) == f"{signed} is not as it was signed (README.md changed)"
    (signed / "README.md").write_bytes(content)
    (signed / "extra.txt").write_text("")
    assert "extra.txt" in refusal(signed)
    (signed / "extra.txt").unlink()
    (signed / "labels.json").unlink()
    assert "labels.json" in refusal(signed)


def test_another_key_is_refused_and_so_is_a_signature_with_it(signed: Path) -> None:
    private, public = keys(signed.parent, "theirs")
    with pytest.raises(UserError, match="is not as it was signed"):
        signature.check(signed, public)
    signature.sign(signed, signature.signer(private))
    assert "is not as it was signed" in refusal(signed)


def test_what_is_no_key_and_what_is_not_signed_get_a_line(signed: Path, fcn: Fcn) -> None:
    edwards = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (signed.parent / "edwards.pem").write_bytes(edwards)
    (signed.parent / "text.pem").write_text("a key")
    for name in ("edwards.pem", "text.pem", "nosuch.pem"):
        with pytest.raises(UserError, match="openssl ecparam"):
            signature.signer(signed.parent / name)
        _, _, code = fcn("export", "--check", "signed", "--key", name)
        assert str(code).startswith(f"error: {name} is ")
        assert "\n" not in str(code)
    assert fcn("export", "--check", "signed")[2] == (
        "error: `fcn export --check` needs --key, the public key of the signer"
    )
    (signed / "model.sig").unlink()
    assert fcn("export", "--check", "signed", "--key", "ours.pub.pem")[2] == "error: signed/model.sig is missing"

"""The signature of a folder, by the OpenSSF's model signing with a key file: offline, without an account or a log.

The signature, `model.sig`, lies in the folder and covers every other file of it. It is a Sigstore bundle, which the
command `model_signing verify key` checks as well.

source   github.com/ossf/model-signing-spec
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from fcn.runtime import files
from fcn.runtime.errors import UserError, in_one_line

if TYPE_CHECKING:
    from model_signing import signing

NAME = "model.sig"
LARGEST = 16 << 20  # bytes of a signature, which has about 200 for each file
NEW_KEY = "openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem"
PUBLIC_KEY = "openssl ec -in KEY.pem -pubout -out PUBLIC.pem"


def signer(key: Path) -> "signing.Config":
    """What signs with a private key.

    key      PEM without password, of one of the curves P-256, P-384 and P-521
    raises   UserError if it is no such key
    """
    from model_signing import hashing, signing

    if not key.is_file():
        raise UserError(f"{key} is missing; `{NEW_KEY}` makes a private key")
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=key)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, AttributeError) as error:  # no PEM; with a password; of another kind
        raise UserError(f"{key} is not a private key without password ({in_one_line(error)}); `{NEW_KEY}`") from None
    every = hashing.Config().set_ignored_paths(paths=[NAME])  # type: ignore[no-untyped-call]
    return config.set_hashing_config(every)


def sign(folder: Path, by: "signing.Config") -> None:
    """Signs the files of a folder."""
    by.sign(folder, folder / NAME)


def check(folder: Path, key: Path) -> None:
    """Checks that a folder has the files that were signed, and no others; files of git do not count.

    key      the public key, PEM
    raises   UserError if the folder differs, or was not signed with this key
    """
    from model_signing import verifying

    signature = folder / NAME
    files.read_regular(signature, LARGEST)
    if not key.is_file():
        raise UserError(f"{key} is missing; `{PUBLIC_KEY}` writes the public key of a private one")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{key} is not a public key ({in_one_line(error)}); `{PUBLIC_KEY}`") from None
    try:
        config.verify(folder, signature)
    except Exception as error:  # of the parsers of JSON, of base64 and of keys, whatever the damage is
        changed = re.findall(r"Hash mismatch for \\*'(.*?)\\*':", str(error))
        reason = f"{', '.join(changed)} changed" if changed else in_one_line(error)
        raise UserError(f"{folder} is not as it was signed ({reason})") from None

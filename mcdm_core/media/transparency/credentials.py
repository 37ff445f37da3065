"""Content credentials (C2PA): a signed statement in a video that it was generated, and reading it back.

The note of :mod:`.provenance` can be changed by anyone. These are bound to the pictures and signed with the user's own
certificate, so a change shows. Whoever writes the video anew drops them. c2pa-python does the work, offline.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import MCDMError, MediaError, PackageError, first_line, unwritable
from ...files import part_path, replace_finished
from .provenance import read_provenance

_SUFFIXES = (".mp4", ".m4v", ".mov")
_PAINTED_OVER = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class Credentials:
    """What the credentials of a file say.

    Attributes:
        whole: signature and contents fit: nothing was changed since. trusted: the signer is on a list of authorities.
        signer: name and organisation in the certificate; program: that made the statement.
        sources: digital source types (addresses of the IPTC) of what was done; parents: titles of earlier videos.
        faults: codes of what does not fit, without the trust in the signer.
    """

    whole: bool
    trusted: bool
    signer: str
    program: str
    sources: tuple[str, ...]
    parents: tuple[str, ...]
    faults: tuple[str, ...]


def sign_video(
    path: str | Path,
    certificate: str | Path,
    key: str | Path,
    parent: str | Path | None = None,
    version: str | None = None,
) -> None:
    """Put signed credentials into a finished video of ours; it is replaced once the signed one is complete.

    Args:
        path: of the video, which has no credentials yet.
        certificate: PEM file of the signer's certificate and those between it and the authority, in this order.
        key: PEM file of its private key, without a password.
        parent: the video that was changed (a dub's), or None where all pictures are new. version: of this program.

    Raises:
        MediaError: if the video does not say that it is synthetic, is signed already, or cannot be read or written.
        MCDMError: if certificate and key are no such files or do not fit; PackageError: without c2pa-python.
    """
    c2pa = _library()
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise MediaError(f"{path.name} is no mp4 or mov file; only those are signed.")
    if not read_provenance(path).synthetic:
        raise MediaError(f"{path.name} carries no note of MCDM: only videos that were made by it are signed as such.")
    if read_credentials(path) is not None:
        raise MediaError(f"{path.name} carries content credentials already; signing again would drop them.")
    info, part = _signer_info(c2pa, Path(certificate), Path(key)), part_path(path)
    program = {"name": "MCDM"} | ({"version": version} if version else {})
    statement = {"title": path.name, "claim_generator_info": [program]}
    intents, generated = c2pa.C2paBuilderIntent, c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
    try:
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(statement) as builder:
            if parent is None:
                builder.set_intent(intents.CREATE, generated)
            else:
                builder.set_intent(intents.EDIT)
                _add_parent(builder, Path(parent))
                builder.add_action({"action": "c2pa.edited", "digitalSourceType": _PAINTED_OVER})
            builder.sign_file(path, part, signer)
        replace_finished(part, path)
    except (OSError, c2pa.C2paError.Io) as error:
        raise unwritable(path, error) from error
    except c2pa.C2paError as error:
        raise MCDMError(
            f"{path.name} cannot be signed with {Path(certificate).name} ({first_line(error)}). Give a certificate for "
            "signing documents, those up to its authority after it, and its own key."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def read_credentials(path: str | Path) -> Credentials | None:
    """The credentials of a file, checked against its contents; None where it has none, or is of a kind without.

    Raises:
        MediaError: if they cannot be read; PackageError: without c2pa-python.
    """
    c2pa = _library()
    path = Path(path)
    try:
        reader = c2pa.Reader.try_create(path)
        if reader is None:
            return None
        with reader:
            told, state = json.loads(reader.json()), reader.get_validation_state()
    except c2pa.C2paError.NotSupported:
        return None
    except c2pa.C2paError as error:
        raise MediaError(f"The content credentials of {path.name} cannot be read ({first_line(error)}).") from error
    manifest = told["manifests"][told["active_manifest"]]
    signed = manifest.get("signature_info", {})
    program = next(iter(manifest.get("claim_generator_info", [])), {})
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    codes = [status["code"] for status in told.get("validation_status", [])]
    return Credentials(
        whole=state in ("Valid", "Trusted"),
        trusted=state == "Trusted",
        signer=", ".join(signed[name] for name in ("common_name", "issuer") if signed.get(name)),
        program=" ".join(str(program[name]) for name in ("name", "version") if program.get(name)),
        sources=tuple(action["digitalSourceType"] for action in actions if "digitalSourceType" in action),
        parents=tuple(
            str(part.get("title", "")) for part in manifest.get("ingredients", []) if part["relationship"] == "parentOf"
        ),
        faults=tuple(code for code in codes if code != "signingCredential.untrusted"),
    )


def _library() -> Any:
    try:
        import c2pa
    except (ImportError, OSError) as error:  # OSError: its library does not fit the machine
        raise PackageError(
            "Content credentials need c2pa-python: pip install 'mcdm-talking-face[credentials]'."
        ) from error
    return c2pa


def _add_parent(builder: Any, parent: Path) -> None:
    with parent.open("rb") as file:
        kind = "video/quicktime" if parent.suffix.lower() == ".mov" else "video/mp4"
        builder.add_ingredient({"title": parent.name, "relationship": "parentOf"}, kind, file)


def _signer_info(c2pa: Any, certificate: Path, key: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        chain, secret = certificate.read_bytes(), key.read_bytes()
        private = load_pem_private_key(secret, password=None)
    except OSError as error:
        raise MCDMError(f"{error.filename} cannot be read ({error.strerror}). Check the path.") from error
    except (ValueError, TypeError) as error:
        raise MCDMError(
            f"{key.name} is no private key without a password ({first_line(error)}). Give a PEM file; "
            "`openssl pkcs8 -topk8 -nocrypt` makes one."
        ) from error
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        name = _CURVES[private.curve.name]
    elif isinstance(private, rsa.RSAPrivateKey):
        name = "ps256"
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        name = "ed25519"
    else:
        raise MCDMError(f"{key.name} is a key of a kind that is not used here; RSA, Ed25519 and NIST's curves are.")
    return c2pa.C2paSignerInfo(name, chain, secret, None)

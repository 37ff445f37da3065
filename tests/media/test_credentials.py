"""Content credentials: what is signed is read back, and a change of the video, a foreign one or a wrong key shows."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import torch

from mcdm_core.__main__ import main
from mcdm_core.errors import MCDMError, MediaError, PackageError
from mcdm_core.media.video_writer import VideoWriter

pytest.importorskip("c2pa", reason="signs videos")
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mcdm_core.media.transparency.credentials import read_credentials, sign_video

KEYS = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ps256": lambda: rsa.generate_private_key(65_537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def certificate(name: str, public, issuer: str, signer, *, authority: bool, days: int) -> x509.Certificate:
    """One certificate, valid from ten days ago for so many days."""
    began = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(10)
    names = [
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Studio"), x509.NameAttribute(NameOID.COMMON_NAME, n)])
        for n in (name, issuer)
    ]
    usage = [not authority, *[False] * 4, authority, authority, False, False]
    made = (
        x509.CertificateBuilder(issuer_name=names[1], subject_name=names[0], public_key=public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + datetime.timedelta(days))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.KeyUsage(*usage), critical=True)
    )
    if not authority:
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return made.sign(signer, hashes.SHA256())


def signer(folder: Path, kind: str = "es256", days: int = 365, password: bytes | None = None) -> tuple[Path, Path]:
    """Files of a certificate with its authority's, and of its key."""
    root, key = KEYS["es256"](), KEYS[kind]()
    chain = [
        certificate("Anna", key.public_key(), "Root", root, authority=False, days=days),
        certificate("Root", root.public_key(), "Root", root, authority=True, days=3650),
    ]
    pem, paths = serialization.Encoding.PEM, (folder / "chain.pem", folder / "key.pem")
    paths[0].write_bytes(b"".join(one.public_bytes(pem) for one in chain))
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, hidden))
    return paths


@pytest.fixture
def video(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "a.mp4", 64, 64, 25) as writer:
        writer.write(torch.rand(10, 3, 64, 64))
    return tmp_path / "a.mp4"


@pytest.mark.parametrize("kind", KEYS)
def test_what_is_signed_is_read_back_and_a_change_shows(video: Path, kind: str, tmp_path: Path) -> None:
    assert read_credentials(video) is None
    sign_video(video, *signer(tmp_path, kind), version="1.2")
    told = read_credentials(video)
    assert told is not None and told.whole and not told.trusted and not told.faults
    assert told.signer == "Anna, Studio" and told.program == "MCDM 1.2"
    assert [source.rpartition("/")[2] for source in told.sources] == ["trainedAlgorithmicMedia"]
    changed = bytearray(video.read_bytes())
    changed[changed.index(b"mdat") + 1000] ^= 1
    (tmp_path / "b.mp4").write_bytes(changed)
    told = read_credentials(tmp_path / "b.mp4")
    assert told is not None and not told.whole and told.faults


def test_a_dub_names_the_video_it_was_made_from(video: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.mp4"
    given.write_bytes(video.read_bytes())
    sign_video(video, *signer(tmp_path), parent=given)
    told = read_credentials(video)
    assert told is not None and told.whole and told.parents == ("given.mp4",)
    assert [source.rpartition("/")[2] for source in told.sources] == ["compositeWithTrainedAlgorithmicMedia"]


def test_what_cannot_be_signed_stays_as_it_was(video: Path, tmp_path: Path) -> None:
    good = signer(tmp_path)
    (tmp_path / "other").mkdir()
    other, before = signer(tmp_path / "other"), video.read_bytes()
    foreign = tmp_path / "foreign.mp4"
    foreign.write_bytes(before.replace(b"MCDM", b"WXYZ").replace(b"trainedAlgorithmicMedia", b"x" * 23))
    refused = [
        (video, (good[0], other[1]), "cannot be signed"),  # another certificate's key
        (video, (other[1], good[1]), "cannot be signed"),  # no certificate
        (video, (good[0], good[0]), "no private key"),
        (video, (tmp_path / "none.pem", good[1]), "cannot be read"),
        (foreign, good, "no note of MCDM"),
    ]
    for path, (chain, key), match in refused:
        with pytest.raises(MCDMError, match=match):
            sign_video(path, chain, key)
    (tmp_path / "late").mkdir()
    with pytest.raises(MCDMError, match="cannot be signed"):
        sign_video(video, *signer(tmp_path / "late", days=5))
    with pytest.raises(MCDMError, match="without a password"):
        sign_video(video, *signer(tmp_path / "late", password=b"secret"))
    assert video.read_bytes() == before and not list(tmp_path.glob("*.part.*"))
    sign_video(video, *signer(tmp_path))
    with pytest.raises(MediaError, match="already"):
        sign_video(video, *good)


def test_the_command_line_signs_and_tells(video: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    assert main(["info", str(video)]) == 0
    assert "no content credentials" in capsys.readouterr().out
    chain, key = map(str, signer(tmp_path))
    assert main(["sign", str(video), "--certificate", chain, "--key", key]) == 0
    assert main(["info", str(video)]) == 0
    said = capsys.readouterr().out
    assert "signed by Anna, Studio" in said and "is as it was signed" in said and "says that it is synthetic" in said
    data = bytearray(video.read_bytes())
    data[data.index(b"mdat") + 1000] ^= 1
    video.write_bytes(data)
    assert main(["info", str(video)]) == 0
    assert "NOT as it was signed" in capsys.readouterr().out


def test_without_the_package_it_says_what_to_install(video: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    with pytest.raises(PackageError, match="credentials"):
        sign_video(video, "chain.pem", "key.pem")
    assert main(["info", str(video)]) == 0
    assert "were not looked for" in capsys.readouterr().out

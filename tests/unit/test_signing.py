"""C2PA manifests, made with a certificate authority of our own and read with C2PA's own reader."""

import datetime
import io
import json
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from i2i.errors import ImageError, UsageError
from i2i.imaging import FORMATS, Metadata, Picture, decode, encode
from i2i.provenance import COMPOSITE, TRAINED, Provenance, read_provenance, stamp
from i2i.signing import MEDIA_TYPES, Signing, check_format, load_signing

c2pa = pytest.importorskip("c2pa")
x509 = pytest.importorskip("cryptography.x509")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402 - the extra's
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402

PEM = serialization.Encoding.PEM
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
MADE = Provenance(COMPOSITE, "zebra", "stripes", "i2i-gan 1.2", "ab" * 32, "{}", "cd" * 32)


def certificate(subject: str, key: Any, issuer: str, issuer_key: Any, **changes: Any) -> bytes:
    """Return a certificate as PEM: an authority's where it issues itself."""
    is_authority = subject == issuer
    name, by = (
        x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, each)])
        for each in (subject, issuer)
    )
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    usage |= {"digital_signature": not is_authority, "key_cert_sign": is_authority}
    builder = (
        x509.CertificateBuilder(by, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - 10 * DAY)
        .not_valid_after(NOW + changes.get("days", 300) * DAY)
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(x509.KeyUsage(**usage, crl_sign=is_authority), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if not is_authority:
        purpose = changes.get("purpose", x509.ExtendedKeyUsageOID.EMAIL_PROTECTION)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    digest = None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(issuer_key, digest).public_bytes(PEM)


AUTHORITY_KEY = ec.generate_private_key(ec.SECP256R1())
AUTHORITY = certificate("Authority", AUTHORITY_KEY, "Authority", AUTHORITY_KEY)


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write a chain and its key."""

    def write(key: Any = None, password: bytes | None = None, **changes: Any) -> tuple[Path, Path]:
        key = key or ec.generate_private_key(ec.SECP256R1())
        chain = certificate("Signer", key, "Authority", AUTHORITY_KEY, **changes) + AUTHORITY
        how = serialization.NoEncryption()
        if password:
            how = serialization.BestAvailableEncryption(password)
        kind = serialization.PrivateFormat.PKCS8
        (tmp_path / "chain.pem").write_bytes(chain)
        (tmp_path / "key.pem").write_bytes(key.private_bytes(PEM, kind, how))
        return tmp_path / "chain.pem", tmp_path / "key.pem"

    return write


@pytest.fixture
def signing(files) -> Signing:
    return load_signing(*files())


def signed_picture(provenance: Provenance) -> bytes:
    """Return a JPEG that says how it was made, signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    chain = certificate("Signer", key, "Authority", AUTHORITY_KEY) + AUTHORITY
    kind = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(PEM, kind, serialization.NoEncryption())
    made = replace(picture(), metadata=stamp(Metadata(), provenance))
    content = encode(made, "jpeg", "a")
    return Signing("es256", chain, private).sign(content, "jpeg", "a", provenance)


def picture(**metadata: Any) -> Picture:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return Picture(noise, metadata=Metadata(**metadata))


def report(content: bytes, format_: str = "jpeg") -> dict[str, Any]:
    """Return what C2PA's reader says, which trusts our authority."""
    settings = {"trust": {"user_anchors": AUTHORITY.decode()}}
    with (
        c2pa.Context(settings=c2pa.Settings.from_dict(settings)) as context,
        c2pa.Reader(MEDIA_TYPES[format_], io.BytesIO(content), context=context) as reader,
    ):
        return json.loads(reader.json())


def manifest(content: bytes, format_: str = "jpeg") -> dict[str, Any]:
    told = report(content, format_)
    assert told["validation_state"] == "Trusted", told.get("validation_status")
    return told["manifests"][told["active_manifest"]]


def actions(content: bytes) -> list[dict[str, Any]]:
    (found,) = (
        each for each in manifest(content)["assertions"] if each["label"] == "c2pa.actions.v2"
    )
    return found["data"]["actions"]


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_that_is_written_can_be_signed_and_loses_nothing(
    signing: Signing, format_: str
) -> None:
    check_format(format_, "a.jpg")
    made = picture()
    content = encode(replace(made, metadata=stamp(made.metadata, MADE)), format_, "a")

    signed = signing.sign(content, format_, "a", MADE, content)

    assert manifest(signed, format_)["signature_info"]["issuer"] == "Signer"
    before, after = decode(content, "a"), decode(signed, "a")
    assert np.array_equal(before.pixels, after.pixels)
    assert read_provenance(after.metadata) == MADE


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_that_was_changed_after_signing_is_found_out(signing: Signing, format_: str) -> None:
    content = encode(picture(), format_, "a")
    signed = signing.sign(content, format_, "a", MADE)
    other = replace(picture(), pixels=255 - picture().pixels)
    pixels = encode(other, format_, "a")
    place = next(n for n in range(len(content) // 2, len(content)) if content[n] != pixels[n])
    start = signed.index(content[place - 8 : place + 8]) + 8
    tampered = bytearray(signed)
    tampered[start] ^= 1
    assert report(signed, format_)["validation_state"] == "Trusted"
    try:
        told = report(bytes(tampered), format_)
    except c2pa.C2paError:
        return  # not even a file of its format any more
    assert told["validation_state"] == "Invalid"
    codes = {each["code"] for each in told["validation_status"]}
    assert any(code.endswith("Hash.mismatch") for code in codes)


def test_a_composite_was_opened_and_edited(signing: Signing) -> None:
    content = encode(picture(), "jpeg", "a")
    opened, edited = actions(signing.sign(content, "jpeg", "a", MADE, content))
    assert opened["action"] == "c2pa.opened"
    assert len(opened["parameters"]["ingredients"]) == 1
    assert edited["action"] == "c2pa.edited"
    assert edited["digitalSourceType"] == COMPOSITE
    assert edited["softwareAgent"] == {"name": "i2i-gan", "version": "1.2"}
    for part in ("zebra", "stripes", "ab" * 32, "{}"):
        assert part in edited["description"]


def test_what_a_model_computed_whole_was_created_from_its_input(signing: Signing) -> None:
    content = encode(picture(), "jpeg", "a")
    signed = signing.sign(content, "jpeg", "a", replace(MADE, digital_source_type=TRAINED), content)
    (created,) = actions(signed)
    assert created["action"] == "c2pa.created"
    assert created["digitalSourceType"] == TRAINED
    (ingredient,) = manifest(signed)["ingredients"]
    assert ingredient["relationship"] == "inputTo"
    assert "thumbnail" not in ingredient


def test_the_manifest_of_an_input_is_kept_inside_the_new_one(signing: Signing) -> None:
    first = signing.sign(encode(picture(), "jpeg", "a"), "jpeg", "a", MADE)
    again = signing.sign(encode(picture(), "jpeg", "a"), "jpeg", "a", MADE, first)
    (ingredient,) = manifest(again)["ingredients"]
    assert ingredient["active_manifest"] == report(first)["active_manifest"]
    alone = signing.sign(encode(picture(), "jpeg", "a"), "jpeg", "a", MADE)
    assert "active_manifest" not in manifest(alone)["ingredients"][0]


@pytest.mark.parametrize("kind", ["none", "empty", "bmp", "damaged", "signed and damaged"])
def test_an_input_that_c2pa_cannot_read_is_an_ingredient_all_the_same(
    signing: Signing, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = encode(picture(), "jpeg", "a")
    before = signing.sign(content, "jpeg", "a", MADE)
    place = before.index(b"c2pa.actions")
    source = {
        "none": None,
        "empty": b"",
        "bmp": b"BM" + bytes(100),
        "damaged": content[:100],
        "signed and damaged": before[:place] + bytes(50) + before[place + 50 :],
    }[kind]
    signed = signing.sign(content, "jpeg", "a.jpg", MADE, source)
    assert ("a.jpg: its C2PA manifest is not kept" in caplog.text) is ("damaged" in kind)
    (ingredient,) = manifest(signed)["ingredients"]
    assert ingredient["relationship"] == "parentOf"
    assert [each["action"] for each in actions(signed)] == ["c2pa.opened", "c2pa.edited"]


def test_nothing_is_fetched_for_an_input_that_points_to_a_manifest_elsewhere(
    signing: Signing,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/manifest.c2pa"
        packet = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
            xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
            xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="{address}"/>
            </rdf:RDF></x:xmpmeta>""".encode()
        content = encode(picture(xmp=packet), "jpeg", "a")
        assert address.encode() in content
        signing.sign(content, "jpeg", "a", MADE, content)
        with pytest.raises(TimeoutError):
            server.accept()


def test_threads_sign_at_once(signing: Signing) -> None:
    content = encode(picture(), "jpeg", "a")
    barrier = threading.Barrier(4)

    def sign(_: int) -> bytes:
        barrier.wait()
        return signing.sign(content, "jpeg", "a", MADE, content)

    with ThreadPoolExecutor(4) as threads:
        signed = list(threads.map(sign, range(40)))
    assert all(manifest(each) for each in signed)
    assert len(set(signed)) == 40


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-384", "P-521", "Ed25519", "RSA"],
)
def test_keys_of_every_kind_that_c2pa_allows_sign(files, key: Any) -> None:
    content = encode(picture(), "png", "a")
    assert manifest(load_signing(*files(key)).sign(content, "png", "a", MADE), "png")


def test_a_key_as_openssl_used_to_write_it_signs(files) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    chain, path = files(key)
    old = serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(PEM, old, serialization.NoEncryption()))
    assert b"BEGIN EC PRIVATE KEY" in path.read_bytes()
    load_signing(chain, path)


def test_what_cannot_sign_is_said_before_any_work(files, tmp_path: Path) -> None:
    faults = {}

    def attempt(name: str, chain: Path, key: Path) -> None:
        with pytest.raises(UsageError) as caught:
            load_signing(chain, key)
        faults[name] = str(caught.value)

    chain, key = files()
    attempt("missing", tmp_path / "no.pem", key)
    attempt("folder", chain, tmp_path)
    attempt("swapped", key, chain)
    (tmp_path / "der").write_bytes(b"\x30\x82")
    attempt("binary", tmp_path / "der", key)
    other = tmp_path / "other.pem"
    other.write_bytes(key.read_bytes())
    chain, _ = files()
    attempt("another's key", chain, other)
    attempt("password", *files(password=b"secret"))
    attempt("expired", *files(days=-1))
    attempt("for servers", *files(purpose=x509.ExtendedKeyUsageOID.SERVER_AUTH))
    attempt("odd curve", *files(ec.generate_private_key(ec.SECP256K1())))
    (tmp_path / "chain.pem").write_bytes(AUTHORITY)
    attempt("authority itself", tmp_path / "chain.pem", other)
    for name, part in {
        "missing": r"--c2pa-certificate .*no.pem: cannot be read (No such file",
        "folder": "--c2pa-key",
        "swapped": "holds no private key",
        "binary": "is not PEM",
        "another's key": "does not match",
        "password": "is protected by a password",
        "expired": "not valid at time",
        "for servers": "the certificate is invalid",
        "odd curve": "is of a kind that C2PA does not allow",
        "authority itself": "self-signed",
    }.items():
        for piece in part.split(".*"):
            assert piece in faults[name], faults


def test_without_the_extra_the_message_says_how_to_install_it(
    files, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, key = files()
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(UsageError, match=r'pip install "i2i-gan\[c2pa\]"'):
        load_signing(chain, key)


def test_a_format_that_cannot_be_signed_is_refused_before_work() -> None:
    with pytest.raises(UsageError, match=r"a\.bmp: bmp files cannot be signed; expected one of"):
        check_format("bmp", "a.bmp")


def test_a_file_that_is_not_what_it_is_said_to_be_is_named(signing: Signing) -> None:
    with pytest.raises(ImageError, match=r"^a\.png: it cannot be signed \(.*--format"):
        signing.sign(b"no picture", "png", "a.png", MADE)

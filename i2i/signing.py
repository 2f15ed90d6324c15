"""Sign pictures with a C2PA manifest: the user's certificate vouches for what a model made.

The library is c2pa-python, the extra ``i2i-gan[c2pa]``. Nothing here uses the network: no time
stamp is asked for, no manifest of an input fetched. A signed file is another one each time: the
manifest is numbered at random, and most signatures hold a random part.

Source: C2PA Technical Specification 2.1, section 18.15 (actions).
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from i2i.errors import ImageError, UsageError
from i2i.imaging import Picture, encode
from i2i.imaging.opened import sniff
from i2i.provenance import TRAINED, Provenance

_log = logging.getLogger(__name__)

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "jpeg": "image/jpeg",
        "png": "image/png",
        "tiff": "image/tiff",
        "webp": "image/webp",
        "avif": "image/avif",
    }
)
"""The formats that can be signed, each with its media type."""

_INPUTS = {**MEDIA_TYPES, "gif": "image/gif", "heic": "image/heic"}
_UNKNOWN = "application/octet-stream"

_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_UNTRUSTED = "signingCredential.untrusted"  # by whom, depends on who reads


@dataclass(frozen=True)
class Signing:
    """A certificate chain and its key, ready to sign."""

    algorithm: str
    chain: bytes  # PEM, the signer's own certificate first
    key: bytes  # PEM, PKCS #8

    def sign(
        self,
        content: bytes,
        format_: str,
        where: str,
        provenance: Provenance,
        source: bytes | None = None,
    ) -> bytes:
        """Return the bytes of a picture's file with a signed manifest in them.

        It says that a model created the picture, or edited it where pixels of the input remain.
        ``source`` is the input's file: manifests that it carries are kept inside the new one,
        positions and thumbnails in them too; a damaged one is left out with a warning in the log.
        ``where`` names the picture in the ImageError of one that cannot be signed. Any thread may
        call this.
        """
        kind, error_type = MEDIA_TYPES[format_], _c2pa().C2paError
        try:
            if source is not None:
                try:
                    return self._signed(content, kind, provenance, source)
                except error_type as error:  # or is it the picture? The second attempt will tell
                    _log.warning("%s: its C2PA manifest is not kept (%s)", where, _reason(error))
            return self._signed(content, kind, provenance, None)
        except error_type as error:
            raise ImageError(
                f"it cannot be signed ({_reason(error)})",
                where=where,
                expected=f"a {format_} file that a C2PA manifest fits into",
                remedy="choose another --format, or leave the signature out",
            ) from error

    def _signed(
        self, content: bytes, media_type: str, provenance: Provenance, source: bytes | None
    ) -> bytes:
        c2pa = _c2pa()
        settings = c2pa.Settings.from_dict(_SETTINGS)
        made = BytesIO()
        with (
            c2pa.Context(settings=settings) as context,
            _builder(provenance, source, context) as builder,
            c2pa.Signer.from_info(
                c2pa.C2paSignerInfo(self.algorithm, self.chain, self.key, None)
            ) as signer,
        ):
            builder.sign(signer, media_type, BytesIO(content), made)
        return made.getvalue()


def load_signing(certificate: Path, key: Path) -> Signing:
    """Read a certificate chain and its private key, both PEM, and prove them on a small picture.

    Raises UsageError where they cannot be read, do not belong together, or could not sign so that
    others accept it; and where c2pa-python is not installed.
    """
    _c2pa()
    chain = _read(certificate, "--c2pa-certificate")
    algorithm, private = _private_key(key)
    signing = Signing(algorithm, chain, private)
    if fault := _fault(signing):
        raise UsageError(
            f"the certificate and the key cannot sign ({fault})",
            where=f"{certificate} and {key}",
            expected="a valid certificate for signing, its issuers after it, and its own key",
            remedy="see docs/provenance.md for what a certificate needs",
        )
    return signing


def check_format(format_: str, where: str) -> None:
    """Raise UsageError for a format that cannot be signed; ``where`` names the picture."""
    if format_ not in MEDIA_TYPES:
        raise UsageError(
            f"{format_} files cannot be signed",
            where=where,
            expected=f"one of {', '.join(MEDIA_TYPES)}",
            remedy="choose one of them with --format, or leave the signature out",
        )


@dataclass(frozen=True)
class Signature:
    """What a C2PA manifest says of the file that it lies in."""

    signer: str
    faults: tuple[str, ...]  # why it does not hold; empty where it does

    def __str__(self) -> str:
        """Say it in a line."""
        if self.faults:
            return f"does not hold: {'; '.join(self.faults)}"
        return f"holds; by {self.signer}, whom i2i neither trusts nor distrusts"


def read_signature(content: bytes, kind: str) -> Signature | None:
    """Return the signature of a file that ``i2i.imaging`` calls ``kind``; None where it has none.

    Whether the signer is to be trusted is not checked. Raises UsageError without the extra.
    """
    c2pa = _c2pa()
    if kind not in _INPUTS:
        return None
    try:
        with (
            c2pa.Context(settings=c2pa.Settings.from_dict(_SETTINGS)) as context,
            c2pa.Reader(_INPUTS[kind], BytesIO(content), context=context) as reader,
        ):
            report = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return None
    except c2pa.C2paError as error:
        return Signature("", (_reason(error),))
    told = report["manifests"][report["active_manifest"]].get("signature_info", {})
    signer = told.get("common_name") or told.get("issuer") or "somebody without a name"
    return Signature(signer, _faults(report))


def _faults(report: dict[str, Any]) -> tuple[str, ...]:
    """Return what C2PA's reader objects to, but for whom it trusts."""
    return tuple(
        each.get("explanation") or each["code"]
        for each in report.get("validation_status", ())
        if each["code"] != _UNTRUSTED
    )


def _builder(provenance: Provenance, source: bytes | None, context: Any) -> Any:
    """Return a C2PA builder with the actions, and the input as their ingredient."""
    c2pa = _c2pa()
    created = provenance.digital_source_type == TRAINED
    ingredient = {"label": "input", "relationship": "inputTo" if created else "parentOf"}
    if source is not None:
        media_type = _INPUTS.get(sniff(source[:256]) or "", _UNKNOWN)
        builder = c2pa.Builder(_manifest(provenance, []), context)
        builder.add_ingredient_from_stream(ingredient, media_type, BytesIO(source))
        return builder
    return c2pa.Builder(_manifest(provenance, [ingredient | {"format": _UNKNOWN}]), context)


def _manifest(provenance: Provenance, ingredients: list[dict[str, str]]) -> dict[str, Any]:
    name, _, version = provenance.version.rpartition(" ")
    agent = {"name": name, "version": version} if name else {"name": provenance.version}
    told = f"recipe {provenance.recipe}, family {provenance.family}"
    action: dict[str, Any] = {
        "digitalSourceType": provenance.digital_source_type,
        "softwareAgent": agent,
        "description": f"{told}, model {provenance.model_sha256}, request {provenance.request}",
    }
    uses = {"parameters": {"ingredientIds": ["input"]}}
    if provenance.digital_source_type == TRAINED:
        actions = [{"action": "c2pa.created"} | action | uses]
    else:
        actions = [{"action": "c2pa.opened"} | uses, {"action": "c2pa.edited"} | action]
    return {
        "claim_generator_info": [agent],
        "ingredients": ingredients,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
    }


def _c2pa() -> Any:
    """Return the module, which has no types; raises UsageError where it is not installed."""
    try:
        import c2pa  # type: ignore[import-untyped]
    except ImportError as error:
        raise UsageError(
            "c2pa-python is not installed",
            where="--c2pa-certificate",
            expected="the extra that signs",
            remedy='pip install "i2i-gan[c2pa]"',
        ) from error
    return c2pa


def _read(path: Path, option: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unusable(path, option, f"cannot be read ({error.strerror or error})") from error
    if b"-----BEGIN " not in content:
        raise _unusable(path, option, "is not PEM")
    return content


def _private_key(path: Path) -> tuple[str, bytes]:
    """Return the C2PA name of a key's algorithm, and the key as unencrypted PKCS #8."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    option = "--c2pa-key"
    content = _read(path, option)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise _unusable(path, option, "is protected by a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(path, option, f"holds no private key ({_reason(error)})") from error
    algorithm = None
    if isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = _CURVES.get(key.curve.name)
    elif isinstance(key, rsa.RSAPrivateKey):
        algorithm = "ps256"
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        algorithm = "ed25519"
    if algorithm is None:
        raise _unusable(path, option, "is of a kind that C2PA does not allow")
    plain = serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return algorithm, key.private_bytes(pem, pkcs8, plain)


def _fault(signing: Signing) -> str | None:
    """Sign a picture of one pixel and read it back; return what a reader objects to."""
    c2pa = _c2pa()
    tried = Provenance(TRAINED, "trial", "trial", "i2i", "", "{}", "")
    pixel = encode(Picture(np.zeros((1, 1, 3), np.uint8)), "png", "trial")
    try:
        signed = signing._signed(pixel, MEDIA_TYPES["png"], tried, None)
        with c2pa.Reader("image/png", BytesIO(signed)) as reader:
            report = json.loads(reader.json())
    except c2pa.C2paError as error:
        return _reason(error)
    return "; ".join(_faults(report)) or None


def _unusable(path: Path, option: str, wrong: str) -> UsageError:
    kind = "a private key without a password" if option == "--c2pa-key" else "certificates"
    return UsageError(
        wrong,
        where=f"{option} {path}",
        expected=f"a PEM file with {kind}",
        remedy="check the path, or convert it with openssl",
    )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

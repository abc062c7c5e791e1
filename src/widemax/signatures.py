"""Who saved a run: an Ed25519 signature of its manifest, which names every other file by its SHA-256."""

from pathlib import Path
from typing import Any

from widemax.errors import CorruptError, UsageError, reason_of
from widemax.storage import MANIFEST, SIGNATURE, current, saving, sound, write_file, writing


def sign(folder: Path | str, key: Path | str) -> None:
    """Sign the manifest of a saved run, in a file beside it.

    Args:
        folder: the run.
        key: a file with an Ed25519 private key in PEM, without a password.

    Raises:
        UsageError: the file holds no such key, another process writes the run, or cryptography is missing.
        CorruptError: the folder holds no saved run.
        ResourceError: the signature cannot be written.

    Example:
        >>> from widemax.signatures import check_signature, sign
        >>> sign("run", "private.pem")  # doctest: +SKIP
        >>> check_signature("run", "public.pem")  # doctest: +SKIP
    """
    private = _read_key(Path(key), "private")
    folder = Path(folder).expanduser()
    with sound(current(folder) / MANIFEST), writing(folder, overwrite=True), saving(str(folder)):
        signature = private.sign((folder / MANIFEST).read_bytes())
        write_file(folder / SIGNATURE, f"{signature.hex()}\n")


def check_signature(folder: Path | str, trusted_key: Path | str) -> None:
    """Refuse a run whose manifest the owner of a key has not signed.

    Args:
        folder: the run.
        trusted_key: a file with an Ed25519 public key in PEM.

    Raises:
        UsageError: the file holds no such key, or cryptography is missing.
        CorruptError: the run has no signature, or one that is not of its manifest by this key.
    """
    public = _read_key(Path(trusted_key), "public")
    from cryptography.exceptions import InvalidSignature

    path = Path(folder).expanduser() / SIGNATURE
    with sound(path):
        signature = bytes.fromhex(path.read_text(encoding="ascii"))
    try:
        with sound(path.with_name(MANIFEST)):
            public.verify(signature, path.with_name(MANIFEST).read_bytes())
    except CorruptError as error:
        if not isinstance(error.__cause__, InvalidSignature):
            raise
        raise CorruptError(
            f"{path} is not a signature of {MANIFEST} by the owner of {trusted_key}: the run was altered, or "
            "signed by another. Do not use it before you know which."
        ) from None


def _read_key(path: Path, kind: str) -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise UsageError(
            "signatures need cryptography, which is not installed; pip install 'widemax[sign]'."
        ) from None
    try:
        content = path.expanduser().read_bytes()
        if kind == "private":
            key: Any = serialization.load_pem_private_key(content, password=None)
        else:
            key = serialization.load_pem_public_key(content)
        if not isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey):
            raise ValueError(f"it holds a {type(key).__name__}")
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"{path} must hold an Ed25519 {kind} key in PEM, without a password: {reason_of(error)}."
        ) from None
    return key

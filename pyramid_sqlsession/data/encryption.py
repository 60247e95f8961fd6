"""Encryption of the stored data, with configured keys, the cookie's token, or both.

An envelope is a prefix that names the kind, a nonce of 12 bytes, and the data encrypted with
AES-256-GCM. The prefix and the row's id are authenticated too, so that an envelope opens in its own
row only. Every row has its own key, derived by HKDF-SHA256 (RFC 5869), so that no key is used with
enough nonces for two of them to be equal.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..cookie import id_of
from ..exceptions import SessionDataError

_ENCRYPTED = b"sqls:e1:"
_SEALED = b"sqls:s1:"
_PREFIX_BYTES = 8
_NONCE_BYTES = 12
_TAG_BYTES = 16

log = logging.getLogger("pyramid_sqlsession")


class Encryption:
    """Encrypts and decrypts serialized sessions. Fails closed.

    :param keys: the newest first, each of 32 bytes. The first encrypts, all decrypt.
    :param seal: derive the key from the session's token, and from the key of the settings if there
        is one.
    :param migrates: whether data that was stored differently is accepted at this moment.
    """

    added = _PREFIX_BYTES + _NONCE_BYTES + _TAG_BYTES
    """How many bytes longer than the data an envelope is."""

    def __init__(
        self, keys: tuple[bytes, ...], *, seal: bool, migrates: Callable[[], bool]
    ) -> None:
        self._keys = keys
        self._prefix = _SEALED if seal else _ENCRYPTED
        self._migrates = migrates

    def encrypt(self, data: bytes, token: str) -> bytes:
        """An envelope for the row of this token."""
        key = next(self._row_keys(self._prefix, token))
        nonce = secrets.token_bytes(_NONCE_BYTES)
        bound_to = self._prefix + id_of(token)
        return self._prefix + nonce + AESGCM(key).encrypt(nonce, data, bound_to)

    def decrypt(self, envelope: bytes, token: str) -> tuple[bytes, bool]:
        """The data, and whether :meth:`encrypt` would store it in the same way now.

        :raises SessionDataError: if it is not an envelope, was modified, or belongs to another row.
        """
        prefix = envelope[:_PREFIX_BYTES]
        if prefix not in (_ENCRYPTED, _SEALED):
            if not self._migrates():
                raise SessionDataError(
                    "its data is not encrypted (sqlsession.encryption_migrate would accept it)"
                )
            _tell(token, "in plain text")
            return envelope, False
        if prefix != self._prefix and not self._migrates():
            raise SessionDataError("its data is not encrypted as sqlsession.seal requires")
        nonce = envelope[_PREFIX_BYTES : _PREFIX_BYTES + _NONCE_BYTES]
        box = envelope[_PREFIX_BYTES + _NONCE_BYTES :]
        if len(box) < _TAG_BYTES:
            raise SessionDataError("its encrypted data is truncated")
        for position, key in enumerate(self._row_keys(prefix, token)):
            try:
                data = AESGCM(key).decrypt(nonce, box, prefix + id_of(token))
            except InvalidTag:
                continue
            if prefix != self._prefix or position >= max(1, len(self._keys)):
                _tell(token, "encrypted differently")
                return data, False
            return data, position == 0
        raise SessionDataError("no key decrypts its data, or the data belongs to another row")

    def _row_keys(self, prefix: bytes, token: str) -> Iterator[bytes]:
        """The keys of one row, the one to encrypt with first."""
        if prefix == _ENCRYPTED:
            for key in self._keys:
                yield _derived(key, id_of(token), b"pyramid_sqlsession encrypt 1")
            return
        for salt in self._keys:
            yield _derived(token.encode("ascii"), salt, b"pyramid_sqlsession seal 1")
        if not self._keys or self._migrates():
            # sealed before there was a key
            yield _derived(token.encode("ascii"), None, b"pyramid_sqlsession seal 1")


def _tell(token: str, how: str) -> None:
    """Log a row that only the migration accepts: it may be forged."""
    row = id_of(token).hex()
    log.info("row %s was accepted by sqlsession.encryption_migrate: it is %s", row, how)


def _derived(secret: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret)

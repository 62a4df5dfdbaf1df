"""The configuration of allauth's second factors that needs code."""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
from typing import Any, Final

import qrcode  # type: ignore[import-untyped]
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.utils.translation import gettext

from chatsite.site_settings import current

log = logging.getLogger(__name__)

# Modules of white space that scanners need around a code.
_BORDER: Final = 4


class MfaAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # untyped library
    """Encrypts secrets in the database, and draws codes that the content policy allows."""

    def get_totp_issuer(self) -> str:
        return current().site_name

    def get_totp_label(self, user: AbstractBaseUser) -> str:
        return user.get_username()

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        return {**super().get_public_key_credential_rp_entity(), "name": current().site_name}

    def get_public_key_credential_user_entity(self, user: AbstractBaseUser) -> dict[str, Any]:
        return {**super().get_public_key_credential_user_entity(user), "name": user.get_username()}

    def build_totp_svg(self, url: str) -> str:
        """Return the QR code as SVG without inline styles, which the content policy refuses."""
        code = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_M, border=_BORDER)
        code.add_data(url)
        rows = code.get_matrix()
        size = len(rows)
        path = "".join(
            f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, dark in enumerate(row) if dark
        )
        label = gettext("QR code for your authenticator app")
        return (
            f'<svg class="qr" role="img" aria-label="{label}" viewBox="0 0 {size} {size}" '
            f'shape-rendering="crispEdges"><path d="{path}"/></svg>'
        )

    def generate_authenticator_name(self, user: AbstractBaseUser, type: Authenticator.Type) -> str:
        count = Authenticator.objects.filter(user_id=user.pk, type=type).count()
        return gettext("Passkey") if not count else f"{gettext('Passkey')} {count + 1}"

    def encrypt(self, text: str) -> str:
        return _cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Return the secret; a random one if it was encrypted with another secret key.

        The code of a random secret is never right. An administrator can reset the second factor.
        """
        try:
            return _cipher().decrypt(encrypted_text.encode()).decode()
        except InvalidToken:
            log.error(
                "The secret of a second factor can't be decrypted: the secret key has changed"
            )
            return base64.b32encode(secrets.token_bytes(20)).decode()


def _cipher() -> Fernet:
    key = hashlib.sha256(b"chatsite.accounts.mfa" + settings.SECRET_KEY.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))

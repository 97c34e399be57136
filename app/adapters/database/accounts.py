"""Accounts and tokens in a database. Neither passwords nor the secrets of tokens are kept, only their hashes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import uuid4

import sqlalchemy as sa

from app.accounts import SHORTEST_PASSWORD, Account, Scope, Token, hashed, is_right, token_digest
from app.adapters.database.engine import Database
from app.adapters.database.tables import accounts, tokens
from app.errors import AppError


@cache
def nobody() -> str:
    """What a password is held against when there is no such account."""
    return hashed(secrets.token_urlsafe())


class DatabaseAccounts:
    """Implements app.ports.Accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, account: Account, password: str) -> None:
        """Add an account or replace it. Raises AppError for a password that is too short."""
        if len(password) < SHORTEST_PASSWORD:
            raise AppError(f"a password needs at least {SHORTEST_PASSWORD} characters")
        values = {
            "full_name": account.full_name,
            "scopes": _words(account.scopes),
            "password": hashed(password),
            "is_disabled": account.is_disabled,
        }
        with self._database.writing() as connection:
            self._database.alone(connection, accounts)
            changed = connection.execute(accounts.update().where(accounts.c.name == account.name).values(**values))
            if changed.rowcount == 0:
                connection.execute(accounts.insert().values(name=account.name, **values))

    def check(self, name: str, password: str) -> Account | None:
        """The account when name and password are right and it is not disabled; takes as long when they are not."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(accounts).where(accounts.c.name == name)).one_or_none()
        right = is_right(password, nobody() if row is None else row._mapping["password"])
        if row is None or not right or row._mapping["is_disabled"]:
            return None
        return _account(row)

    def get(self, name: str) -> Account:
        """KeyError when there is none."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(accounts).where(accounts.c.name == name)).one_or_none()
        if row is None:
            raise KeyError("no such account")
        return _account(row)

    def all(self) -> tuple[Account, ...]:
        """By name."""
        with self._database.reading() as connection:
            return tuple(_account(row) for row in connection.execute(sa.select(accounts).order_by(accounts.c.name)))

    def disable(self, name: str) -> None:
        """It can no longer log in. KeyError when there is none."""
        with self._database.writing() as connection:
            changed = connection.execute(accounts.update().where(accounts.c.name == name).values(is_disabled=True))
        if changed.rowcount == 0:
            raise KeyError("no such account")

    def issue(
        self, label: str, scopes: Sequence[Scope], *, study_uid: str | None = None, days: int | None = None
    ) -> tuple[Token, str]:
        """A new bearer token and its secret, which is shown this once. study_uid: it opens this study alone."""
        if Scope.SIGN in scopes:
            raise AppError("only people sign: a token cannot have the scope sign")
        secret = secrets.token_urlsafe(32)
        expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
        token = Token(uuid4().hex, label, frozenset(scopes), study_uid, expires_at)
        with self._database.writing() as connection:
            connection.execute(
                tokens.insert().values(
                    id=token.id,
                    label=label,
                    digest=token_digest(secret),
                    scopes=_words(token.scopes),
                    study_uid=study_uid,
                    expires_at=expires_at,
                )
            )
        return token, secret

    def token(self, secret: str) -> Token | None:
        """The token with this secret when it is neither expired nor revoked."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(tokens).where(tokens.c.digest == token_digest(secret))).one_or_none()
        if row is None:
            return None
        token = _token(row)
        is_over = token.expires_at is not None and token.expires_at <= datetime.now(UTC)
        return None if token.is_revoked or is_over else token

    def tokens(self) -> tuple[Token, ...]:
        """By label."""
        with self._database.reading() as connection:
            return tuple(_token(row) for row in connection.execute(sa.select(tokens).order_by(tokens.c.label)))

    def revoke(self, token_id: str) -> None:
        """KeyError when there is none."""
        with self._database.writing() as connection:
            changed = connection.execute(tokens.update().where(tokens.c.id == token_id).values(is_revoked=True))
        if changed.rowcount == 0:
            raise KeyError("no such token")


def _words(scopes: frozenset[Scope]) -> str:
    return " ".join(sorted(scopes))


def _scopes(words: str) -> frozenset[Scope]:
    return frozenset(Scope(word) for word in words.split())


def _account(row: sa.Row[tuple[object, ...]]) -> Account:
    fields = row._mapping
    mark = token_digest(fields["password"])[:16]  # of what is kept, whose salt is random
    return Account(fields["name"], fields["full_name"], _scopes(fields["scopes"]), fields["is_disabled"], mark)


def _token(row: sa.Row[tuple[object, ...]]) -> Token:
    fields = row._mapping
    return Token(
        fields["id"],
        fields["label"],
        _scopes(fields["scopes"]),
        fields["study_uid"],
        fields["expires_at"],
        fields["is_revoked"],
    )

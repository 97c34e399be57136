"""Commands about who may do what: the server that asks, tokens of programs, accounts of people, the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.accounts import Account, Scope
from app.errors import AppError, BadSetting
from app.opening import open_here, print_json

if TYPE_CHECKING:
    from app.bootstrap import Program

tokens_app = typer.Typer(help="Bearer tokens of programs that use the REST endpoint.", no_args_is_help=True)
users_app = typer.Typer(help="Accounts of people who use the workbench.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Scopes = Annotated[list[Scope], typer.Option("--scope", help="Say it again for each scope.")]
SHORTEST_KEY = 12  # digits of a keyed hash, as `wetread studies` shows them
ACTOR = "command line"  # who did it, in the audit trail


def serve(
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Workers are processes of their own.")] = False,
) -> None:
    """Serve the REST endpoint and the workbench, with a worker in the same process, until Ctrl-C or SIGTERM."""
    from app.rest.serve import serve as run
    from app.terminal import say

    program = open_here()

    def ready(address: str) -> None:
        say(f"serving at {address}")
        if program.settings.authentication == "required" and not (program.accounts.tokens() or program.accounts.all()):
            say("nobody is let in yet: see `wetread tokens issue` and `wetread users add`")

    run(program, with_worker=not no_worker, ready=ready)


def audit(
    verify: Annotated[
        bool, typer.Option("--verify", help="Only check that no entry was changed or taken out.")
    ] = False,
    study: Annotated[str | None, typer.Option("--study", help="Of this study alone, by its keyed hash.")] = None,
    most: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show what was done, by whom, when, newest first."""
    from app.terminal import out

    program = open_here()
    if verify:
        broken = program.audit.broken_at()
        if broken is not None:
            raise AppError(f"the audit trail does not hold from entry {broken} on: it was changed from outside")
        out.print("the audit trail holds")
        return
    entries = program.audit.entries(study_key=study, limit=most)
    if as_json:
        print_json(
            [
                {
                    "number": each.number,
                    "at": each.at.isoformat(),
                    "actor": each.actor,
                    "action": each.action,
                    "study": each.study_key,
                    "detail": dict(each.detail),
                    "digest": each.digest,
                }
                for each in entries
            ]
        )
        return
    for each in entries:
        detail = " ".join(f"{name}={value}" for name, value in each.detail.items())
        out.print(
            f"{each.number}  {each.at:%Y-%m-%d %H:%M:%S}  {each.actor}  {each.action}  {each.study_key[:12]}  {detail}",
            markup=False,
        )


@tokens_app.command("issue")
def tokens_issue(
    label: Annotated[str, typer.Argument(help="Whose it is; the audit trail names it so.")],
    scope: Scopes,
    study: Annotated[str | None, typer.Option("--study", help="It opens this study alone, by its keyed hash.")] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, max=3660, help="It ends after so many days.")] = None,
) -> None:
    """Make a token and print its secret, which is shown this once."""
    from app.terminal import say
    from dicom_io.identity import study_key

    if not label.strip() or len(label) > 200:
        raise BadSetting("a label has 1 to 200 characters")
    program = open_here()
    uid = None if study is None else uid_of(program, study)
    token, secret = program.accounts.issue(label.strip(), scope, study_uid=uid, days=days)
    key, scopes = study_key(uid, program.secret) if uid else "", " ".join(sorted(token.scopes))
    program.audit.record(ACTOR, "token issued", key, token=token.id, label=token.label, scopes=scopes)
    say(f"token {token.id}, shown this once:")
    typer.echo(secret)


@tokens_app.command("list")
def tokens_list(as_json: AsJson = False) -> None:
    """List the tokens, without their secrets."""
    from app.terminal import out
    from dicom_io.identity import study_key

    program = open_here()
    rows = [
        {
            "token": each.id,
            "label": each.label,
            "scopes": sorted(each.scopes),
            "study": study_key(each.study_uid, program.secret) if each.study_uid else None,
            "expires_at": each.expires_at.isoformat() if each.expires_at else None,
            "is_revoked": each.is_revoked,
        }
        for each in program.accounts.tokens()
    ]
    if as_json:
        print_json(rows)
        return
    for each in program.accounts.tokens():
        ends = "revoked" if each.is_revoked else f"until {each.expires_at:%Y-%m-%d}" if each.expires_at else "no end"
        one = f"study {study_key(each.study_uid, program.secret)[:12]}" if each.study_uid else "every study"
        out.print(f"{each.id}  {each.label}  {' '.join(sorted(each.scopes))}  {one}  {ends}", markup=False)
    if not rows:
        out.print("there are no tokens")


@tokens_app.command("revoke")
def tokens_revoke(token: Annotated[str, typer.Argument(help="The token's id, see `wetread tokens list`.")]) -> None:
    """Make a token useless, now."""
    from app.terminal import say

    program = open_here()
    try:
        program.accounts.revoke(token)
    except KeyError:
        raise BadSetting("there is no token with this id") from None
    program.audit.record(ACTOR, "token revoked", token=token)
    say("revoked")


@users_app.command("add")
def users_add(
    name: Annotated[str, typer.Argument(help="What they log in with.")],
    full_name: Annotated[str, typer.Option("--full-name", help="What stands under a report that they sign.")],
    scope: Scopes,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read it from standard input.")] = False,
) -> None:
    """Add an account, or replace it; asks for the password."""
    from app.terminal import say

    if not name.strip() or len(name) > 200 or not full_name.strip() or len(full_name) > 200:
        raise BadSetting("a name and a full name have 1 to 200 characters")
    program = open_here()
    password = (
        password_from_stdin()
        if password_stdin
        else typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    )
    account = Account(name.strip(), full_name.strip(), frozenset(scope))
    program.accounts.add(account, password)
    program.audit.record(ACTOR, "account added", name=account.name, scopes=" ".join(sorted(account.scopes)))
    say(f"{account.name} can log in")


@users_app.command("list")
def users_list(as_json: AsJson = False) -> None:
    """List the accounts."""
    from app.terminal import out

    accounts = open_here().accounts.all()
    if as_json:
        print_json(
            [
                {
                    "name": each.name,
                    "full_name": each.full_name,
                    "scopes": sorted(each.scopes),
                    "is_disabled": each.is_disabled,
                }
                for each in accounts
            ]
        )
        return
    for each in accounts:
        state = "disabled" if each.is_disabled else ""
        out.print(f"{each.name}  {each.full_name}  {' '.join(sorted(each.scopes))}  {state}".rstrip(), markup=False)
    if not accounts:
        out.print("there are no accounts")


@users_app.command("disable")
def users_disable(name: Annotated[str, typer.Argument(help="What they log in with.")]) -> None:
    """Let somebody in no more. What they signed stays signed."""
    from app.terminal import say

    program = open_here()
    try:
        program.accounts.disable(name)
    except KeyError:
        raise BadSetting("there is no account of this name") from None
    program.audit.record(ACTOR, "account disabled", name=name)
    say("disabled")


def password_from_stdin() -> str:
    """The first line of standard input, without its end."""
    return typer.get_text_stream("stdin").readline().rstrip("\r\n")


def uid_of(program: Program, key: str) -> str:
    """The Study Instance UID of the archived study whose keyed hash begins so. Raises BadSetting."""
    from dicom_io.identity import study_key

    found = [row.uid for row in program.archive.studies() if study_key(row.uid, program.secret).startswith(key)]
    if len(found) != 1 or len(key) < SHORTEST_KEY:
        raise BadSetting("--study names no study of the archive, or more than one; see `wetread studies`")
    return found[0]

"""The tables of the office's desk: people, entries, moves, the ledger, mails, witnesses, places that are not cut."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_INT: Any = sa.Integer()  # Of any type: a column is of one of these.
_BIG, _YES = sa.BigInteger(), sa.Boolean()
_NUMBER: Any = _BIG.with_variant(sa.Integer(), "sqlite")


def _only_grows() -> None:
    """Let the database refuse changes of entries."""
    act = "BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END"
    if op.get_bind().dialect.name == "postgresql":
        raised = "BEGIN RAISE EXCEPTION 'the ledger only grows'; END"
        op.execute(f"CREATE FUNCTION ledger_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$ {raised} $$")
        act = "FOR EACH STATEMENT EXECUTE FUNCTION ledger_only_grows()"
    for change in ("UPDATE", "DELETE"):
        op.execute(f"CREATE TRIGGER ledger_no_{change.lower()} BEFORE {change} ON ledger_entry {act}")


def _table(
    name: str, columns: dict[str, Any], key: Sequence[str], null: Sequence[str] = (), *more: sa.Constraint
) -> None:
    made = [sa.Column(each, kind, nullable=each in null) for each, kind in columns.items()]
    op.create_table(name, *made, sa.PrimaryKeyConstraint(*key, name=f"pk_{name}"), *more)


def upgrade() -> None:
    """Make the tables."""
    who = {"account": _INT, "since": _INT, "digest": sa.String(64), "sealed": sa.LargeBinary()}
    _table("contact", who, ["account", "since"])
    op.create_index("ix_contact_digest", "contact", ["digest"])
    entry = {"no": _NUMBER, "subject": _INT, "cents": _BIG, "left_cents": _BIG, "entered": _BIG, "decided": _BIG}
    entry |= {"kind": sa.String(16), "reason": sa.String(200), "state": sa.String(16)}
    entry |= {"entered_by": sa.String(32), "decided_by": sa.String(32)}
    _table("bill_entry", entry, ["no"], ["decided", "decided_by"])
    _table("move", {"account": _INT, "quarter": _INT}, ["account", "quarter"])
    ledger = dict.fromkeys(("no", "account", "about"), _INT) | {"cents": _BIG, "time": _BIG, "day": sa.String(10)}
    ledger |= {name: sa.String(200) for name in ("kind", "of", "due", "text", "person")}
    ledger |= {"lines": sa.String(400), "sealed": sa.LargeBinary()}
    once = sa.UniqueConstraint("kind", "of", name="uq_ledger_entry_kind_of")
    _table("ledger_entry", ledger, ["no"], ["sealed"], once)
    for column in ("account", "about", "day"):
        op.create_index(f"ix_ledger_entry_{column}", "ledger_entry", [column])
    _only_grows()
    mail = {"no": _NUMBER, "kind": sa.String(16), "account": _INT, "subject": sa.String(64), "state": sa.String(16)}
    mail |= {"due": _BIG, "tries": _INT, "answer": _INT, "base": sa.String(200)}
    same = sa.UniqueConstraint("kind", "account", "subject", name="uq_mail_kind_account_subject")
    _table("mail", mail, ["no"], [], same)
    op.create_index("ix_mail_state", "mail", ["state"])
    signed = {"run_no": _NUMBER, "controller": sa.String(16), "command": sa.String(64), "state": sa.String(16)}
    run = sa.ForeignKeyConstraint(["run_no"], ["bill_run.no"], name="fk_witness_run_no_bill_run")
    _table("witness", signed | {"signed": sa.String(192)}, ["run_no", "controller"], ["signed"], run)
    spared = {"account": _INT, "is_spared": _YES, "wanted": _YES, "asked_by": sa.String(32), "asked": _BIG}
    spared |= {"decided_by": sa.String(32), "decided": _BIG}
    _table("spared_place", spared, ["account"], ["wanted", "decided_by", "decided"])

"""The schema of release 0.3, the earliest whose databases this release opens.

Earlier ones are upgraded to 0.3 first.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from utility.database.base import RowId

BLOCK_VIEW = """
CREATE VIEW block AS
SELECT m.label AS meter, m.microgrid AS microgrid, c.record_type AS record_type,
       c.quarter * CAST(900 AS BIGINT) AS start,
       c.exact AS exact, c.averaged AS averaged, 60 - c.exact - c.averaged AS missing, c.conflicts AS conflicts,
       c.total AS total, c.first_reading AS first_reading, c.last_reading AS last_reading,
       c.min_reading AS min_reading, c.max_reading AS max_reading
FROM compacted AS c JOIN meter AS m ON m.no = c.meter_no
"""
"""For people with SQL: the blocks of finished quarters, each once. ``start`` is epoch seconds."""

revision = "0026"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    _make_registry()
    _make_outbox()
    _make_readings()
    _make_access()
    _make_jobs()
    _make_supply()
    _make_control()
    _make_corrections()
    _make_settlement()
    _make_tariffs()
    _make_billing()
    _make_statistics()
    _make_research()
    _make_alarms()
    _make_overview()
    _let_the_audit_log_only_grow()


_TYPES: dict[str, Any] = {
    "row": RowId,
    "serial": sa.Integer(),
    "int": sa.Integer(),
    "small": sa.SmallInteger(),
    "big": sa.BigInteger(),
    "bool": sa.Boolean(),
    "text": sa.Text(),
    "bytes": sa.LargeBinary(),
}


_DEFAULTS: dict[str, Any] = {"0": "0", "''": "", "no": sa.false()}


def _table(
    name: str,
    key: str,
    columns: str,
    *,
    refers: Mapping[str, str] | None = None,
    unique: Mapping[str, str] | None = None,
    never_again: bool = False,
    named: bool = True,
    **more: Any,
) -> None:
    """Make a table.

    Args:
        key: The columns of its primary key.
        columns: Each column with its type: ``sN`` is a text of at most N characters, ``?`` may be NULL, ``=0``
            and ``=''`` are defaults.
        refers: What a column refers to.
        unique: Columns by the name of their constraint.
        never_again: On SQLite, whether the number of a deleted row is given to no other.
        named: Whether the key's constraint has our name.
    """
    op.create_table(
        name,
        *_columns(columns),
        sa.PrimaryKeyConstraint(*key.split(), name=f"pk_{name}" if named else None),
        *(sa.ForeignKeyConstraint([one], [to], name=f"fk_{name}_{one}") for one, to in (refers or {}).items()),
        *(sa.UniqueConstraint(*fields.split(), name=one) for one, fields in (unique or {}).items()),
        sqlite_autoincrement=never_again,
        **more,
    )


def _columns(text: str) -> list[sa.Column[Any]]:
    made = []
    for column in text.split(", "):
        field, kind = column.split()
        kind, has_default, default = kind.partition("=")
        plain = kind.removesuffix("?")
        made.append(
            sa.Column(
                field,
                _TYPES[plain] if plain in _TYPES else sa.String(int(plain[1:])),
                nullable=kind != plain,
                server_default=_DEFAULTS[default] if has_default else None,
                autoincrement="auto" if plain in ("row", "serial") else False,  # only row numbers are generated
            )
        )
    return made


def _add(table: str, columns: str) -> None:
    """Add columns to a table: SQLite keeps the words with which a schema was made, and a file's are compared."""
    for column in _columns(columns):
        op.add_column(table, column)


def _where(condition: str) -> dict[str, Any]:
    """Return what makes an index one of some rows, on both databases."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def _make_access() -> None:
    _table(
        "audit",
        "no",
        "no row, time big, person s32, via s8, address s64, action s48, subject s128, before text?, after text?, "
        "token big?",
    )
    op.create_index("ix_audit_time", "audit", ["time"])
    op.create_index("ix_audit_token", "audit", ["token"])
    _table(
        "person",
        "name",
        "name s32, display s64, password s160?, state s8, account int?, created big, created_by s32, link_by s32?, "
        "link_at big?, roles_by s32?, roles_at big?, factor_by s32?, factor_at big?",
    )
    _table(
        "api_token",
        "no",
        "no row, digest s64, person s32, label s64, roles s128, made big, until big, used big?, revoked big?",
        refers={"person": "person.name"},
        unique={"uq_api_token_digest": "digest"},
    )
    op.create_index("ix_api_token_person", "api_token", ["person"])
    _table(
        "invitation",
        "digest",
        "digest s64, person s32, made big, made_by s32, until big, used big?",
        refers={"person": "person.name"},
    )
    op.create_index("ix_invitation_person", "invitation", ["person"])
    _table("person_role", "person role", "person s32, role s16", refers={"person": "person.name"})
    _table("recovery_code", "digest", "digest s64, person s32", refers={"person": "person.name"})
    op.create_index("ix_recovery_code_person", "recovery_code", ["person"])
    _table(
        "second_factor",
        "person",
        "person s32, secret s32?, since big?, last_step big, guesses_until big, offered s64?, offered_until big?",
        refers={"person": "person.name"},
    )
    _table(
        "session",
        "digest",
        "digest s64, person s32, csrf s64, opened big, used big, until big, address s64, agent s128",
        refers={"person": "person.name"},
    )
    op.create_index("ix_session_person", "session", ["person"])
    _table("started_login", "digest", "digest s64, person s32, until big, wrong int", refers={"person": "person.name"})
    op.create_index("ix_started_login_person", "started_login", ["person"])


def _make_jobs() -> None:
    _table(
        "period",
        "job start",
        "job s32, start big, until big, due big, name s32, attempts int, lease_until big?, done big?",
    )
    _add("period", "took_ms big?, error s500?, waits_for s500?")
    op.create_index("ix_period_open", "period", ["job", "start"], **_where("done IS NULL"))
    _table(
        "job",
        "name",
        "name s32, paused big?, every_s int?, minute small?, period s32?, done big?, took_ms big?, failed big?, "
        "error s500?",
    )


def _make_registry() -> None:
    _table(
        "controller",
        "id",
        "id s16, number int, kind s16, address s45",
        unique={"uq_controller_number": "number"},
    )
    _table("setting", "key", "key s32, value text")
    _table(
        "meter",
        "no",
        "no serial, id big, label s20, microgrid s16, address s45, location s200, function s16, direction s16, "
        "account int, record_types s32, service_amps int, battery_capacity big?, minimum_percent int?, push bool, "
        "crc big",
        refers={"microgrid": "controller.id"},
        unique={"uq_meter_id": "id", "uq_meter_label": "label"},
    )
    op.create_index("ix_meter_microgrid", "meter", ["microgrid"])
    _table("declared_minimum", "meter_no", "meter_no int, percent int, said big", refers={"meter_no": "meter.no"})
    with op.batch_alter_table("declared_minimum") as table:
        table.drop_constraint("pk_declared_minimum", type_="primary")
        table.create_primary_key("pk_declared_minimum", ["meter_no", "said"])
    _table("account", "number", "number int, made big")
    _table("account_difference", "meter told", "meter big, told int, registered int, first big, last big, reports big")
    _table("account_term", "account what since", "account int, what s8, since int, value s64, crc big")
    _table("holding", "meter since", "meter big, since int, until int?, account int, crc big")
    _table(
        "installed",
        "meter",
        "meter big, place s200, building s200?, since int?, until int?, first_register big?, last_register big?, "
        "crc big",
    )
    _table("registry_change", "no", "no row, time big, person s64, subject s40, before text, after text")
    op.create_index("ix_registry_change_subject", "registry_change", ["subject"])


def _make_outbox() -> None:
    _table(
        "command",
        "id",
        "id s64, controller s16, message text, created big, until big, state s16, outcome text?",
        refers={"controller": "controller.id"},
    )
    _add("command", "result s16?, limits_import bool=no")
    op.create_index("ix_command_state", "command", ["state"])
    op.create_index("ix_command_controller_created", "command", ["controller", "created"])
    _table(
        "gateway_seen",
        "controller",
        "controller s16, time big, heartbeat text",
        refers={"controller": "controller.id"},
    )
    _add("gateway_seen", "tuned bool=no")


def _make_readings() -> None:
    _table(
        "letter",
        "no",
        "no row, meter big, log small, generation big, record_id big, reason small, crc big, time big, sender s16, "
        "content bytes, state s8='', decided big?, decided_by s64?, why s200?",
        unique={"uq_letter": "meter log generation record_id reason crc"},
    )
    op.create_index("ix_letter_state", "letter", ["state"], **_where("state <> ''"))
    _table(
        "tally",
        "controller",
        "controller s16, batches big, blocks big, slots big, events big, letters big, held big, event_conflicts big, "
        "last_batch big",
        refers={"controller": "controller.id"},
    )
    _table(
        "event",
        "meter_no generation record_id",
        "meter_no int, generation big, record_id big, previous_state int, new_state int, time big, sender s16, "
        "owner s16, crc big",
        refers={"meter_no": "meter.no"},
    )
    op.create_index("ix_event_meter_no_time", "event", ["meter_no", "time"])
    _table(
        "gap",
        "meter_no record_type quarter",
        "meter_no int, record_type small, quarter int, mask big, absent big, asked int, next_time big, is_open bool",
        refers={"meter_no": "meter.no"},
    )
    _add("gap", "touched int=0")
    op.create_index("ix_gap_is_open_next_time", "gap", ["is_open", "next_time"])
    op.create_index("ix_gap_touched", "gap", ["touched"], **_where("touched > 0"))
    _table(
        "held",
        "meter_no record_type quarter letter_no",
        "meter_no int, record_type small, quarter int, letter_no row, mask big",
        refers={"letter_no": "letter.no", "meter_no": "meter.no"},
    )
    _table(
        "series",
        "meter_no record_type",
        "meter_no int, record_type small, first_quarter int, scanned_from int?, scanned_until int?",
        refers={"meter_no": "meter.no"},
    )
    _table(
        "compacted",
        "quarter meter_no record_type",
        "total big?, first_reading big?, last_reading big?, min_reading big?, max_reading big?, quarter int, "
        "meter_no int, received_minute int, record_type small, sender_no small, owner_no small, exact small, "
        "averaged small, conflicts small, payload bytes",
        postgresql_partition_by="RANGE (quarter)",
    )
    op.create_index("ix_compacted_conflicts", "compacted", ["owner_no"], **_where("conflicts > 0"))
    _table(
        "part",
        "id",
        "id row, quarter int, meter_no int, received_minute int, record_type small, sender_no small, owner_no small, "
        "payload bytes",
        never_again=True,
    )
    op.create_index("ix_part_key", "part", ["quarter", "meter_no", "record_type"])
    _table(
        "conflict_sender",
        "quarter meter_no record_type slot value sender_no",
        "quarter int, meter_no int, record_type small, slot small, value big, sender_no small",
    )
    op.execute(BLOCK_VIEW)
    if op.get_bind().dialect.name == "postgresql":
        # Numbers are taken by the hundred. What is deleted makes room for what comes, and the file's end, which is soon
        # needed again, is not cut off: that would keep those waiting who append.
        op.execute("ALTER SEQUENCE part_id_seq CACHE 100")
        op.execute(
            "ALTER TABLE part SET (vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0.05,"
            " autovacuum_vacuum_insert_scale_factor = 0.5)"
        )
    _table(
        "relayed_day",
        "controller day",
        "controller s16, day int, seconds big, batches big, blocks big, slots big, size big",
        refers={"controller": "controller.id"},
    )


def _make_supply() -> None:
    _table(
        "plant_quarter", "quarter", "quarter int, slots small, ordered big, needed big, sold big, net big, level big"
    )
    _table("plant_seen", "one", "one small, time big, report text")
    _table(
        "purchase",
        "quarter",
        "quarter int, id s64, energy big, price int, policy s16, reason text, inputs text, message text, created "
        "big, until big, state s16, outcome text?",
        unique={"uq_purchase_id": "id"},
    )
    op.create_index("ix_purchase_open", "purchase", ["quarter"], **_where("state = 'open'"))
    _table(
        "ration",
        "controller",
        "controller s16, quarter int, supply s16, import_limit_w big?, reason text, until big, command s64",
        refers={"controller": "controller.id"},
    )


def _make_control() -> None:
    _table(
        "control_change",
        "no",
        "no row, made big, person s64, action s16, fields text, due big, valid_s int, state s16, undoes big?, "
        "ended big?, ended_by s64?",
    )
    op.create_index("ix_control_change_state", "control_change", ["state"])
    _table(
        "control_target",
        "change_no controller",
        "change_no row, controller s16, fields text, before text?, command s64?",
        refers={"change_no": "control_change.no", "controller": "controller.id"},
    )
    op.create_index("ix_control_target_controller", "control_target", ["controller", "change_no"])
    _table(
        "control_version",
        "controller setting",
        "controller s16, setting s32, change_no row",
        refers={"controller": "controller.id", "change_no": "control_change.no"},
    )
    _table(
        "weights_told",
        "controller since",
        "controller s16, since int, weights text, command s64",
        refers={"controller": "controller.id"},
    )


def _make_corrections() -> None:
    _table("checked_day", "day meter_no record_type", "day int, meter_no int, record_type small, energy big")
    _table(
        "correction",
        "no",
        "no row, quarter int, meter_no int, record_type small, version small, owner_no small, method small, mask "
        "big, energy big, state s8, payload bytes",
        unique={"uq_correction": "quarter meter_no record_type version"},
        never_again=True,
    )
    op.create_index("ix_correction_state_meter", "correction", ["state", "meter_no", "record_type", "quarter"])
    op.create_index("ix_correction_state_quarter", "correction", ["state", "quarter"])
    _table(
        "correction_step",
        "no",
        "no row, correction_no row, time big, person s64, state_before s8, state_after s8, why s200",
        never_again=True,
    )
    op.create_index("ix_correction_step_correction_no", "correction_step", ["correction_no"])
    _table(
        "finding",
        "no",
        "no row, meter_no int, record_type small, check_name s16, first_quarter int, until_quarter int, figure "
        "big, threshold big, found big, closed big?, closed_by s64?, why s200?",
        unique={"uq_finding": "meter_no record_type check_name first_quarter"},
    )
    op.create_index("ix_finding_open", "finding", ["check_name"], **_where("closed IS NULL"))


def _make_settlement() -> None:
    _table(
        "settled",
        "no",
        "no row, day int, meter_no int, computed_minute int, version small, why small, payload bytes",
        unique={"uq_settled": "day meter_no version"},
        never_again=True,
    )
    _table(
        "settled_day",
        "day owner_no",
        "day int, owner_no small, convention s16, computed big, missing int, final bool, residual text",
    )
    _table("settlement_due", "day owner_no", "day int, owner_no small, marks int, why small")
    _table(
        "sharing",
        "quarter owner_no version meter_no",
        "quarter int, owner_no small, version small, meter_no int, given big, received big",
    )
    _table("sharing_due", "quarter owner_no", "quarter int, owner_no small, marks int")
    _table(
        "sharing_quarter",
        "quarter owner_no version",
        "quarter int, owner_no small, version small, computed big, complete bool, shared big",
    )


def _make_tariffs() -> None:
    _table(
        "rates_version",
        "name version",
        "name s32, version small, state s16, effective int, content text, source text, proposed_by s32, proposed "
        "big, approved_by s32?, approved big?",
    )
    _table(
        "rates_told",
        "controller tariff",
        "controller s16, tariff s32, version small, month s7, command s64",
        refers={"controller": "controller.id"},
    )


def _make_billing() -> None:
    _table(
        "bill_run",
        "no",
        "no row, month s7, by_job s7?, state s16, policy s16, code s32, settled_no big, previous_no big, "
        "inputs_digest s64, digest s64, root s64?, figures text, inputs bytes, made_by s32, made big, checked_by "
        "s32?, checked big?, issued_by s32?, issued big?, secret bytes?, leaves bytes?, head text?",
        unique={"uq_bill_run_by_job": "by_job", "uq_bill_run_month_inputs": "month inputs_digest"},
    )
    op.create_index("ix_bill_run_issued", "bill_run", ["month"], unique=True, **_where("state = 'issued'"))
    _table(
        "bill",
        "run_no account",
        "run_no row, account int, cents big, base s16?, content text",
        refers={"run_no": "bill_run.no"},
    )


def _make_statistics() -> None:
    _table("usage_batteries", "month owner_no", "month int, owner_no small, payload bytes")
    _table("usage_day", "day class_no", "day int, class_no small, payload bytes")
    _table("usage_due", "day owner_no", "day int, owner_no small, marks int")
    _table(
        "usage_month",
        "month scope subject owner_no",
        "imported big, shared_in big, exported big, shared_out big, generated big?, used big?, peak big, slots "
        "big, wanted big, quarters big, settled big, missing big, estimated big, reduced_s big, islanded_s big, "
        "computed big, peak_at int, month int, scope small, subject int, owner_no small, payload bytes",
    )
    op.create_index("ix_usage_month_subject", "usage_month", ["scope", "subject", "month"])
    _table(
        "usage_projection",
        "month scope subject quantity",
        "low big?, middle big, high big?, made big, month int, scope small, subject int, quantity small",
    )


def _make_research() -> None:
    _table("research_agreement", "name", "name s64, until big, added big, added_by s32")
    _table("research_log", "no", "no row, time big, person s32, action s16, subject s64, detail text")
    _table("research_reader", "agreement person", "agreement s64, person s32, added big, added_by s32")
    _table(
        "research_release",
        "id",
        "id s16, tier s16, since int, until int, options text, attacks text, groups text, state s16, asked big, "
        "asked_by s32, decided big?, decided_by s32?, why s200?",
    )


def _make_alarms() -> None:
    _table(
        "alarm", "key since", "key s255, since big, stage s8, ended big?, labels text, summary s400, description s400"
    )
    op.create_index("ix_alarm_ended", "alarm", ["ended"])
    op.create_index("ix_alarm_open", "alarm", ["key"], **_where("ended IS NULL"))
    _table(
        "alarm_acknowledgement", "no", "no row, key text, person s64, note s200, made big, until big", never_again=True
    )
    op.create_index("ix_alarm_acknowledgement_until", "alarm_acknowledgement", ["until"])
    _table(
        "alarm_silence",
        "no",
        "no row, subject s400, ways text, person s64, note s200, made big, start big, until big, foreign_ids text",
        never_again=True,
    )
    op.create_index("ix_alarm_silence_until", "alarm_silence", ["until"])


def _make_overview() -> None:
    _table(
        "complete_day",
        "day owner_no",
        "day int, owner_no small, exact big=0, averaged big=0, quarantined big=0, refused big=0, off big=0, absent "
        "big=0, missing big=0, computed big=0, marks int",
        named=False,
    )
    op.create_index("ix_complete_day_due", "complete_day", ["day"], **_where("marks > 0"))


def _let_the_audit_log_only_grow() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE OR REPLACE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the audit log only grows'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{change.lower()} BEFORE {change} ON audit "
            f"BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END"
        )

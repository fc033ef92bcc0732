"""Tables of what gateways and the plant are asked, and of what the plant answers."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)

from utility.database.base import SMALL, columns, metadata

# `message` and `outcome` are JSON. `result` is what the gateway answered, as in `outcome`; empty: there is no answer.
# `limits_import`: whether the message has an import limit.
command = Table(
    "command",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("controller", String(16), ForeignKey("controller.id"), nullable=False),
    Column("message", Text, nullable=False),
    *columns(BigInteger, "created", "until", nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("outcome", Text, nullable=True),
    Column("result", String(16), nullable=True),
    Column("limits_import", Boolean, nullable=False, server_default=false()),
    Index("ix_command_controller_created", "controller", "created"),
    info=SMALL,
)

# What each controller was last told of a topic, such as `rates town`: its content, JSON, when, and by which command.
told = Table(
    "told",
    metadata,
    Column("controller", String(16), ForeignKey("controller.id"), primary_key=True),
    Column("topic", String(40), primary_key=True),
    Column("content", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("command", String(64), nullable=False),
    info=SMALL,
)

DISCOVERY = "discover-"  # what ids of questions begin with that ask controllers which foreign devices they hear

# The reports of controllers (``controller_commands.ControllerOutcome.report``), by the command that asked for it and
# when it was given; `text` is as in the outcome.
controller_report = Table(
    "controller_report",
    metadata,
    Column("command", String(64), primary_key=True),
    Column(
        "controller",
        String(16),
        ForeignKey("controller.id", name="fk_controller_report_controller_controller"),
        nullable=False,
    ),
    Column("time", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_controller_report_controller", "controller", "time"),
    info=SMALL,
)

# The last report of the town's plant, as received; one row.
plant_seen = Table(
    "plant_seen",
    metadata,
    Column("one", SmallInteger, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("report", Text, nullable=False),
)

# What the plant measured in each finished quarter, milliwatt-hours (``PlantQuarter``).
plant_quarter = Table(
    "plant_quarter",
    metadata,
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    Column("slots", SmallInteger, nullable=False),
    *columns(BigInteger, "ordered", "needed", "sold", "net", "level", nullable=False),
    info=SMALL,
)

# The purchases, one a quarter: what was ordered, why, and the command that is sent to the plant until it answers.
# `price` is in thousandths of the price outside peak hours; `inputs` is JSON for people.
purchase = Table(
    "purchase",
    metadata,
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False, unique=True),
    Column("energy", BigInteger, nullable=False),
    Column("price", Integer, nullable=False),
    Column("policy", String(16), nullable=False),
    *columns(Text, "reason", "inputs", "message", nullable=False),
    *columns(BigInteger, "created", "until", nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcome", Text, nullable=True),
    Index("ix_purchase_open", "quarter", sqlite_where=text("state = 'open'"), postgresql_where=text("state = 'open'")),
    info=SMALL,
)

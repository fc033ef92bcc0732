"""Settings: the error of a wrong file names the file, the line, the key and what is allowed."""

import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commonwatt.cli.main import check_certificates, config_app
from commonwatt.config.database_url import parse_database
from commonwatt.config.files import check_file, example, load_settings, read_toml
from commonwatt.config.meters import MetersSettings
from commonwatt.config.settings import PARTS, BrokerSettings, GatewaySettings, Settings, command_of, settings_of
from commonwatt.identity.certificates import Purpose
from commonwatt.identity.passwords import save_password
from commonwatt.model.exceptions import ConfigError
from harness.care.certificates import authority, certificate
from utility.settings import UtilitySettings

MODELS = {part: settings_of(part) for part in PARTS}


def keys_of(model: type[Settings]) -> list[str]:
    """Return the keys of a part's own table; tables inside are tried by the tests of their rooms."""
    return [key for key in model.model_fields if key not in (*model.tables(), *model.lists)]


WRONG: list[tuple[str, str, object, str]] = [  # part, key, a wrong value, a word of what is allowed instead
    ("broker", "listen", "somewhere", "HOST:PORT"),
    ("broker", "listen", "a:65536", "HOST:PORT"),
    ("broker", "http_hosts", ["*"], "[a-z"),
    ("broker", "packets_per_s", 0, "0"),
    ("adapter", "zone", "Mars/Olympus", "time zone"),
    ("gateway", "microgrid", "R1", "[a-z]"),
    ("gateway", "microgrid", "a" * 17, "[a-z]"),
    ("gateway", "collects", ["R1"], "[a-z]"),
    ("gateway", "relay_s", 14, "15"),
    ("gateway", "relay_s", 60.5, "whole number"),
    ("gateway", "put_s", 90, "multiple of 60"),
    ("gateway", "meters", "lossy", "lossless"),
    ("gateway", "sharing", "unfair", "'spec'"),
    ("gateway", "timezone", "America", "time zone"),
    ("gateway", "lte_allowance_bytes", 2**54, "9007199254740992"),
    ("gateway", "lte_interface", "../../etc", "pattern"),
    ("meters", "broker_rank", 65_536, "65536"),
    ("meters", "failures_per_day", "often", "number"),
    ("utility", "http_proxies", ["proxy.example"], "IP address"),
    ("utility", "keep_months", "all", "whole number"),
    ("utility", "clock_is_right", "perhaps", "true or false"),
    ("utility", "second_factor", "always", "everybody"),
]
# No key takes a list of lists.
CASES = [*WRONG, *((part, key, [[1]], "") for part, model in MODELS.items() for key in keys_of(model))]


def toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else str(value)


def required(part: str) -> str:
    if part == "host":
        return 'controllers = ["r001", "r002"]\n'
    return 'microgrid = "r001"\n' if part in ("adapter", "gateway", "meters") else ""


def write(folder: Path, text: str) -> Path:
    path = folder / "part.toml"
    path.write_text(text)
    return path


def error_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        check_file(path)
    return str(caught.value)


@pytest.mark.parametrize(("part", "key", "value", "allowed"), CASES)
def test_wrong_value_is_told_with_file_line_key_and_what_is_allowed(
    tmp_path: Path, part: str, key: str, value: object, allowed: str
) -> None:
    head = "" if key in ("microgrid", "controllers") else required(part)
    path = write(tmp_path, f"# mine\n[{part}]\n{head}\n{key} = {toml(value)} # oh\n")
    line = 5 if head else 4
    message = error_of(path)
    assert message.startswith(f"{path}: line {line}: {part}.{key}")
    assert allowed in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("part", PARTS)
def test_unknown_key_is_told_with_its_line_and_the_known_ones(tmp_path: Path, part: str) -> None:
    path = write(tmp_path, f"[{part}]\n{required(part)}colour = 1\n")
    line = 3 if required(part) else 2
    known = ", ".join(MODELS[part].model_fields)
    assert error_of(path) == f"{path}: line {line}: {part}.colour: unknown key; known here: {known}"


@pytest.mark.parametrize("part", ["adapter", "gateway"])
def test_missing_key_is_told_with_its_table_and_what_it_is_for(tmp_path: Path, part: str) -> None:
    path = write(tmp_path, f"# mine\n[{part}]\n")
    assert error_of(path).startswith(f"{path}: line 2: {part}.microgrid: missing; The microgrid ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "give either microgrid, the one of these meters, or microgrids, several in one process"),
        ('microgrid = "r001"\nmicrogrids = ["r001", "r002"]', "give either microgrid"),
        ('microgrids = ["r001", "r001"]', "microgrids names one twice"),
        ('microgrids = ["r001"]\nstore = "x.db"', "with microgrids, store is a key of each microgrid's own file"),
        ('microgrid = "r001"\nplant = {}', "the plant needs microgrids"),
    ],
)
def test_meters_are_of_one_microgrid_or_of_several(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path, f"[meters]\n{text}\n")
    assert f"{path}: line 1: meters: {told}" in error_of(path)
    (tmp_path / "one").write_text('[meters]\nmicrogrids = ["r001", "r002"]\nplant = {}\n')
    assert check_file(tmp_path / "one") == "meters"


def test_every_fault_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, '[gateway]\nmicrogrid = "R"\nrelay_s = 1\ncolour = 1\n')
    assert [line.split(": ")[1] for line in error_of(path).splitlines()] == ["line 2", "line 3", "line 4"]


@pytest.mark.parametrize("part", PARTS)
def test_printed_example_passes_its_own_check(tmp_path: Path, part: str) -> None:
    path = write(tmp_path, example(part))
    assert check_file(path) == part
    # And what it states as defaults are the defaults.
    shown = load_settings(path, part, MODELS[part])
    assert shown == load_settings(write(tmp_path, f"[{part}]\n{required(part)}"), part, MODELS[part])


@pytest.mark.parametrize("part", PARTS)
def test_printed_example_tells_every_key_and_what_it_is_for(part: str) -> None:
    text = example(part)
    for key, field in MODELS[part].model_fields.items():
        assert f"# {field.description}\n" in text
        forms = (f"\n{key} = ", f"\n# {key} = ...", f".{key}]\n", f"\n# [[{key}]]\n")
        assert any(form in text for form in forms)
    assert tomllib.loads(text)


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[gateway]\nmicrogrid = "r001"\nstore = "data/g.db"\ntokens = "/etc/t.json"\n')
    settings = load_settings(path, "gateway", GatewaySettings)
    assert settings.store == tmp_path.resolve() / "data/g.db"
    assert settings.registry == tmp_path.resolve() / "registry.json"
    assert settings.tokens == Path("/etc/t.json")
    assert settings.clock is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///u.db", "sqlite:///{}/u.db"),
        ("sqlite:////var/u.db", "sqlite:////var/u.db"),
        ("postgresql+psycopg://cw@/cw", "postgresql+psycopg://cw@/cw"),
    ],
)
def test_relative_database_is_relative_to_the_file(tmp_path: Path, url: str, expected: str) -> None:
    path = write(tmp_path, f'[utility]\ndatabase = "{url}"\n')
    settings = load_settings(path, "utility", UtilitySettings)
    assert settings.database == expected.format(tmp_path.resolve())


def test_a_key_that_is_gone_says_what_is_in_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, '[gateway]\nmicrogrid = "r001"\n[gateway.weights]\n10001 = 3\n')
    assert error_of(path).startswith(f"{path}: line 3: gateway.weights: is gone: sharing weights are terms of accounts")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "its table must be one of [adapter], [broker], [gateway], [host], [meters], [utility]"),
        ("[toaster]\n", "its table must be one of [adapter], [broker], [gateway], [host], [meters], [utility]"),
        ("[site]\n[utility]\n", "is a site file; to check it, and make the parts' files: commonwatt site init"),
        ("[broker]\n[utility]\n", "exactly one table, [broker], but has: [broker], [utility]"),
        ("broker = 5\n", "line 1: broker: "),
        ("[[broker]]\n", "line 1: broker: "),
        ("[broker\n", "not TOML"),
    ],
)
def test_wrong_table_is_told_with_the_right_ones(tmp_path: Path, text: str, told: str) -> None:
    assert told in error_of(write(tmp_path, text))


def test_file_of_another_part_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    path = write(tmp_path, "[broker]\n")
    with pytest.raises(ConfigError, match=r"\[meters\].*has: \[broker\].*config example meters"):
        load_settings(path, "meters", MetersSettings)
    assert load_settings(path, "broker", BrokerSettings).http is None


FLEET = '[meters]\nmicrogrid = "r001"\n'
SECOND = '[[brokers]]\nname = "r002"\naddress = "127.0.0.1:1884"\n'


def test_emulated_meters_may_have_further_brokers(tmp_path: Path) -> None:
    path = write(tmp_path, FLEET + 'clique = ["r001", "r002"]\n' + SECOND + "rank = 2\nwarm = true\n")
    settings = load_settings(path, "meters", MetersSettings)
    assert [(one.name, one.rank, one.warm) for one in settings.brokers] == [("r002", 2, True)]
    assert load_settings(write(tmp_path, FLEET), "meters", MetersSettings).brokers == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SECOND + SECOND, "brokers names one twice, or the microgrid's own"),
        (SECOND.replace("r002", "r001"), "brokers names one twice, or the microgrid's own"),
        ('clique = ["r001", "r003"]\n' + SECOND, "clique names r003, which is not one of brokers"),
        ('clique = ["a", "b", "c", "d"]\n', "at most 3"),
        ("".join(SECOND.replace("r002", f"r{n}") for n in range(101)), "at most 100"),
        (SECOND.replace("127.0.0.1", "192.168.1.2"), "brokers, r002: broker = 192.168.1.2:1884 is beyond this machine"),
    ],
)
def test_further_brokers_that_can_not_be_meant_are_refused(tmp_path: Path, text: str, told: str) -> None:
    assert told in error_of(write(tmp_path, FLEET + text))


BEYOND = [
    ("adapter", "broker", "broker_ca", "broker_plain_text"),
    ("adapter", "http", None, "http_plain_text"),
    ("broker", "listen", "certificate", "plain_text"),
    ("broker", "http", None, "http_plain_text"),
    ("gateway", "adapter", None, "http_plain_text"),
    ("gateway", "broker", "broker_ca", "broker_plain_text"),
    ("gateway", "head_end", "head_end_ca", "head_end_plain_text"),
    ("gateway", "http", "http_certificate", "http_plain_text"),
    ("host", "http", None, "http_plain_text"),
    ("meters", "broker", "broker_ca", "broker_plain_text"),
    ("meters", "http", None, "http_plain_text"),
    ("utility", "head_end", "head_end_ca", "head_end_plain_text"),
    ("utility", "http", "http_certificate", "http_plain_text"),
]


def test_every_address_of_every_part_is_judged_below() -> None:
    addresses = {
        (part, key)
        for part, model in MODELS.items()
        for key, field in model.model_json_schema()["properties"].items()
        if any(kind.get("format") == "address" for kind in (field, *field.get("anyOf", ())))
    }
    # Beats and messages of a clique are authenticated, and secret to nobody; care is by HTTPS alone.
    authenticated = {("gateway", "beats"), ("utility", "beats"), ("gateway", "care"), ("utility", "care")}
    assert {(part, key) for part, key, *_ in BEYOND} == addresses - authenticated


@pytest.mark.parametrize(("part", "key", "tls_key", "plain_key"), BEYOND)
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.168.1.2", "utility.example", "127.0.0.1.example"])  # req: P8
def test_plain_text_beyond_this_machine_must_be_said_in_so_many_words(
    tmp_path: Path, part: str, key: str, tls_key: str | None, plain_key: str, host: str
) -> None:
    text = f'[{part}]\n{required(part)}{key} = "{host}:1883"\n'
    message = error_of(write(tmp_path, text))
    assert f"{key} = {host}:1883 is beyond this machine" in message
    assert f"{plain_key} = true" in message
    assert check_file(write(tmp_path, f"{text}{plain_key} = true\n")) == part
    if tls_key is not None:
        assert "commonwatt enroll" in message
        assert check_file(write(tmp_path, f'{text}{tls_key} = "x.pem"\n')) == part


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
def test_plain_text_on_this_machine_needs_no_word(tmp_path: Path, host: str) -> None:
    assert check_file(write(tmp_path, f'[broker]\nlisten = "{host}:1883"\nhttp = "{host}:9102"\n')) == "broker"


def test_plain_text_to_one_broker_is_not_leave_for_the_other(tmp_path: Path) -> None:
    text = 'microgrid = "r001"\nbroker = "10.1.0.1:1883"\nbroker_plain_text = true\nhead_end = "10.1.0.9:1883"\n'
    assert "head_end_plain_text = true" in error_of(write(tmp_path, f"[gateway]\n{text}"))


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("gateway", "public_weight = 2"),
        ("gateway", "near_minimum_permille = 50"),
        ("gateway", "sharing_band_permille = 20"),
        ("gateway", "stable_voltage_s = 300"),
        ("host", 'files = "{controller}.toml"'),
        ("meters", 'files = "{microgrid}.toml"'),
        ("utility", "public_weight = 2"),
        ("utility", "validation.spike_wh = 250"),
        ("utility", "validation.final_days = 10"),
        ("utility", "settlement.deadline_working_days = 5"),
    ],
)
def test_a_setting_that_is_gone_is_refused_with_what_became_of_it(tmp_path: Path, part: str, key: str) -> None:
    assert "is fixed" in error_of(write(tmp_path, f"[{part}]\n{required(part)}{key}\n"))


@pytest.mark.parametrize("part", ["gateway", "utility"])
def test_a_town_may_have_two_head_ends_in_their_order(tmp_path: Path, part: str) -> None:
    head = f"[{part}]\n{required(part)}\nhead_end = "
    one, two = (load_settings(write(tmp_path, head + value), part, settings_of(part)) for value in (
        '"127.0.0.1:1"', '["127.0.0.1:2", "127.0.0.1:1"]'))  # fmt: skip
    assert (dict(one)["head_end"], dict(two)["head_end"]) == (("127.0.0.1:1",), ("127.0.0.1:2", "127.0.0.1:1"))
    for wrong in ("[]", '["127.0.0.1:1", "127.0.0.1:1"]', '["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]'):
        assert "one address, or a list of two different ones" in error_of(write(tmp_path, head + wrong))
    assert "HOST:PORT" in error_of(write(tmp_path, head + '["127.0.0.1:1", "somewhere"]'))
    beyond = error_of(write(tmp_path, head + '["127.0.0.1:1", "10.0.0.1:1"]'))
    assert "head_end = 10.0.0.1:1 is beyond this machine" in beyond


def test_a_list_of_revocations_needs_its_authority(tmp_path: Path) -> None:
    text = '[utility]\nhead_end_revoked = "revoked.pem"\n'
    assert "head_end_revoked needs head_end_ca" in error_of(write(tmp_path, text))
    assert check_file(write(tmp_path, text + 'head_end_ca = "ca.pem"\n')) == "utility"


@pytest.mark.parametrize(
    ("part", "text", "told"),
    [
        ("broker", 'certificate = "part.toml"', "certificate: {}: no certificate with its key: "),
        ("utility", 'certificate = "part.toml"', "certificate: needs head_end_ca: without it the connection is plain"),
        ("gateway", 'certificate = "part.toml"', "certificate: needs broker_ca or head_end_ca: without it "),
        ("adapter", '[adapter.source]\ncertificate = "part.toml"', "source.0.certificate: needs ca: without it "),
        ("meters", 'certificates = "."', "certificates: needs broker_ca: without it "),
    ],
)
def test_certificate_without_its_key_or_without_tls_is_told(tmp_path: Path, part: str, text: str, told: str) -> None:
    path = write(tmp_path, f"[{part}]\n{required(part)}{text}\n")
    with pytest.raises(ConfigError) as caught:
        check_certificates(path, part)
    assert f"{part}.{told.format(path)}" in str(caught.value)


HOSTS_BEYOND = [
    "u:secret@db.example/x",
    "u:secret@10.1.0.9:5432/x?sslmode=require",
    "u:secret@db.example/x?sslmode=prefer",
    "u:secret@/x?host=db.example",
    "u:secret@/x?host=localhost:5432&host=db.example:5432",
    "u:secret@127.0.0.1,db.example/x",
    "u:secret@/x?host=localhost,db2,db3&target_session_attrs=read-write",
    "u:secret@[fd00::1]/x?hostaddr=10.1.0.9",
]


def test_several_databases_have_one_way_to_name_ports(tmp_path: Path) -> None:
    """The driver would take db1:5432 for a name, and fail only when it connects."""
    names = "postgresql+psycopg://u:secret@/x?sslmode=disable&target_session_attrs=read-write&host="
    message = error_of(write(tmp_path, f'[utility]\ndatabase = "{names}db1:5432,db2:5432"\n'))
    assert "host=db1,db2,db3" in message
    assert "secret" not in message
    for hosts in ("db1,db2,db3", "db1,db2,db3&port=5433", "db1:5432&host=db2:5432", "db1:5432", "/run/postgresql"):
        assert check_file(write(tmp_path, f'[utility]\ndatabase = "{names}{hosts}"\n')) == "utility"


@pytest.mark.parametrize("rest", HOSTS_BEYOND)
def test_a_database_beyond_this_machine_is_not_reached_in_plain_text_by_accident(tmp_path: Path, rest: str) -> None:
    message = error_of(write(tmp_path, f'[utility]\ndatabase = "postgresql+psycopg://{rest}"\n'))
    assert "is beyond this machine" in message
    assert "sslmode=verify-full" in message
    assert "secret" not in message
    rest = re.sub("sslmode=.*", "", rest) + ("" if "?" in rest else "?")
    for mode in ("verify-full", "disable"):
        assert (
            check_file(write(tmp_path, f'[utility]\ndatabase = "postgresql+psycopg://{rest}&sslmode={mode}"\n'))
            == "utility"
        )


@pytest.mark.parametrize(
    "rest", ["u@127.0.0.1:5432/x", "u@[::1]/x", "u@localhost/x", "u@/x", "/x?host=/run/postgresql"]
)
def test_a_database_on_this_machine_needs_no_word(tmp_path: Path, rest: str) -> None:
    assert check_file(write(tmp_path, f'[utility]\ndatabase = "postgresql+psycopg://{rest}"\n')) == "utility"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql+psycopg//u:secret@h/x", "is not an SQLAlchemy URL"),
        ("postgresql+psycopg://u:secret@127.0.0.1:abc/x", "is not an SQLAlchemy URL"),
        ("postgresql+psycopg://u:my@secret@127.0.0.1/x", "%40 for @"),
        ("mysql://u:secret@127.0.0.1/x", "mysql is not supported; use sqlite:///"),
        ("postgresql+nodriver://u:secret@127.0.0.1/x", "postgresql+nodriver is not supported"),
        ("postgresql://u:secret@127.0.0.1/x", "use sqlite:///... or postgresql+psycopg://..."),
        ("postgresql+psycopg://u:secret#x@db.example/x", "db.example is beyond this machine"),
        ("sqlite://", "a database in memory is not kept"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///file:u.db?mode=memory&uri=true", "names no file"),
        ("sqlite://utility.db", "three slashes"),
    ],
)
def test_a_database_that_could_never_be_used_is_told_without_its_password(tmp_path: Path, url: str, told: str) -> None:
    path = write(tmp_path, f'# mine\n[utility]\nhttp = "127.0.0.1:8080"\ndatabase = "{url}"\n')
    message = error_of(path)
    assert message.startswith(f"{path}: line 4: utility.database: ")
    assert told in message
    assert "secret" not in message
    assert len(message.splitlines()) == 1


def test_a_password_may_have_a_hash_in_it(tmp_path: Path) -> None:
    url = "postgresql+psycopg://cw:a#b/c?d@127.0.0.1/cw"
    path = write(tmp_path, f'[utility]\ndatabase = "{url}"\n')
    assert load_settings(path, "utility", UtilitySettings).database == url


@pytest.mark.parametrize("folder", ["a%20b", "a b", "a?b#c"])
def test_a_relative_database_is_beside_its_file_whatever_the_folder_is_called(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    path = write(tmp_path / folder, "[utility]\n")
    found = parse_database(load_settings(path, "utility", UtilitySettings).database).database
    assert found == str(tmp_path.resolve() / folder / "utility.db")


@pytest.mark.parametrize("part", PARTS)
def test_check_names_every_file_that_is_not_there_by_its_key(tmp_path: Path, part: str) -> None:
    files = [key for key, field in MODELS[part].model_fields.items() if "path" in str(field.annotation).lower()]
    files = [key for key in files if key != "http_password"]  # A person makes it later; it is noted.
    named = [key for key in files if key not in ("store", "packages")]
    assert "tokens" in named or part in ("broker", "host")
    given = {key: f"data/{key}" for key in files}
    lines = "".join(f'{key} = "{name}"\n' for key, name in given.items())
    lines += 'beats = "127.0.0.1:8885"\n' if {"clique", "cliques"} & set(files) else ""
    path = write(tmp_path, f"[{part}]\n{required(part)}{lines}")

    def check() -> tuple[int, list[str]]:
        done = CliRunner().invoke(config_app, ["check", str(path)])
        return done.exit_code, done.output.splitlines()

    first_line = 2 + len(required(part).splitlines())
    code, said = check()
    assert code == 2
    starts = [
        f"{path}: line {first_line + files.index(key)}: {part}.{key}: {tmp_path.resolve()}/data/{key}: No such file"
        for key in named
    ]
    assert [line[: len(start)] for line, start in zip(said, starts, strict=True)] == starts
    (tmp_path / "data").mkdir()
    contents = {"registry": '{"microgrid": "r001"}', "tokens": '{"r001": "x"}'}
    pem = certificate(authority(tmp_path / "out"), Purpose.DEVICE, "r001").read_text()
    contents |= dict.fromkeys(("certificate", "http_certificate"), pem)
    for key in named:
        (tmp_path / "data" / key).write_text(contents.get(key, ""))
    assert check() == (0, [f"{path}: good, for: {command_of(part)} --config {path}"])
    if "certificate" in named:
        (tmp_path / "data/certificate").write_text(pem.partition("-----END PRIVATE KEY-----\n")[2])
        assert "certificate: no certificate with its key" in check()[1][0]


def checked(path: Path) -> tuple[int, str]:
    done = CliRunner().invoke(config_app, ["check", str(path)])
    return done.exit_code, done.output


def test_check_tells_a_gateway_beside_the_files_of_another_microgrid(tmp_path: Path) -> None:
    (tmp_path / "registry.json").write_text('{"microgrid": "r001"}')
    (tmp_path / "gateway-tokens.json").write_text('{"r001": "x"}')
    code, said = checked(write(tmp_path, '[gateway]\nmicrogrid = "r002"\n'))
    assert code == 2
    assert "gateway.registry" in said
    assert "is of microgrid r001, but this file is of r002" in said
    assert "has no token of r002" in said


@pytest.mark.parametrize(
    ("part", "lines", "key"),
    [
        ("gateway", 'microgrid = "r001"\nhttp = "127.0.0.1:1883"\n', "line 3: gateway.http"),
        ("broker", 'listen = "127.0.0.1:9102"\nhttp = "127.0.0.1:9102"\n', "line 2: broker.listen"),
        ("utility", 'head_end = "127.0.0.1:8080"\n', "utility.http"),
        ("utility", 'head_end = ["127.0.0.1:1", "127.0.0.1:8080"]\n', "utility.http"),
    ],
)
def test_check_tells_two_equal_addresses(tmp_path: Path, part: str, lines: str, key: str) -> None:
    code, said = checked(write(tmp_path, f"[{part}]\n{lines}"))
    assert code == 2
    assert f"{key}: 127.0.0.1:" in said
    assert "give each a port of its own" in said


@pytest.mark.parametrize(
    "keys", ["clients_ca", "clients_revoked", "clients_ca clients_revoked", "certificate clients_ca"]
)
def test_certificates_of_clients_are_asked_for_wholly_or_not_at_all(tmp_path: Path, keys: str) -> None:
    lines = "".join(f'{key} = "x.pem"\n' for key in keys.split())
    assert "go together" in error_of(write(tmp_path, f"[broker]\n{lines}"))


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match=r"latin\.toml: not TOML"):
        read_toml(tmp_path / "latin.toml")


@pytest.fixture
def controller(tmp_path: Path) -> Path:
    """Return a gateway's file whose other files are there."""
    (tmp_path / "registry.json").write_text('{"microgrid": "r001"}')
    (tmp_path / "gateway-tokens.json").write_text('{"r001": "x"}')
    return write(tmp_path, '[gateway]\nmicrogrid = "r001"\n')


def checked_with(path: Path, more: str) -> tuple[int, str]:
    path.write_text(path.read_text() + more)
    return checked(path)


def test_a_page_that_is_not_served_is_noted_with_what_to_do(controller: Path) -> None:
    assert checked_with(controller, "") == (
        0,
        f"{controller}: good, for: commonwatt gateway run --config {controller}\n",
    )
    code, told = checked_with(controller, 'http = "10.1.0.1:9101"\nhttp_plain_text = true\n')
    assert (code, told.splitlines()[1].split(": ")[1]) == (0, "good, for")
    for said in (
        f"note: {controller}: line 3: gateway.http: ",
        "not served",
        f"gateway password --config {controller}",
    ):
        assert said in told
    code, told = checked_with(controller, 'http_password = "page-password.json"\n')
    assert (code, "page-password.json is not there yet" in told) == (0, True)
    save_password(controller.with_name("page-password.json"), "seven small lanterns")
    assert "note" not in checked_with(controller, "")[1]


def test_a_file_that_is_no_password_is_a_fault(controller: Path) -> None:
    controller.with_name("page-password.json").write_text('{"password": "plain"}')
    code, told = checked_with(controller, 'http_password = "page-password.json"\n')
    assert (code, "line 3: gateway.http_password: " in told, "not a password file" in told) == (2, True, True)


def test_a_list_with_a_wrong_element_is_not_called_too_short_as_well(tmp_path: Path) -> None:
    path = write(tmp_path, '[adapter]\nmicrogrid = "r001"\n[adapter.source]\naddress = "127.0.0.1"\n')
    (line,) = error_of(path).splitlines()
    assert "line 3: adapter.source.0.address: must be HOST:PORT" in line

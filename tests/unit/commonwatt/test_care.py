"""What logs and reports lose, and the code of a label."""

import base64
import json
import random
import re
import time

import pytest

from commonwatt.care.code import Code, Invitation
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.service import without_secrets

WORD, WORDS = "hunter2", "correct horse battery"
PLAIN = "swordfish"  # a password that looks like a word
TOKEN = "kM3xT0qW9vB2nL7pR4sZ8yH1dF6gJ5cA0eUiOoXbNw"  # 256 bits in base64url
LETTERS = "kMaxTbqWcvBdnLepRfsZgyHhdFigJjcAkeUiOoXbNwq"  # as that, without a digit
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJyMDAxIn0.c2lnbmF0dXJl"
PADDED = "4Hh/0Xq+c2VjcmV0LWtleS1vZi1hLXR1bm5lbC1r0Xs="  # a key of WireGuard
PEM = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"
LABEL = Code(bytes(range(60, 71))).words

FORMS = [
    # A key, a sign and a value.
    (f"password = {WORDS}", WORDS),
    (f"password={WORD}", WORD),
    (f"password: {WORDS}", WORDS),
    (f"Password : {PLAIN}", PLAIN),
    (f"PASSWORD={PLAIN} was read", PLAIN),
    (f'password = "{WORDS}"', WORDS),
    (f"password = '{WORDS}'", WORDS),
    (f'password = "a \\"quoted\\" {PLAIN}"', PLAIN),
    (f"password='{WORD}', user='town'", WORD),
    (f"Settings(user='town', password='{WORD}')", WORD),
    (f'{{"user": "town", "password": "{WORDS}"}}', WORDS),
    (json.dumps({"body": json.dumps({"password": WORDS})}), WORDS),
    (f"{{'password': '{WORD}'}}", WORD),
    (f"{{password: {WORD}, user: town}}", WORD),
    (f"passwd={WORD}", WORD),
    (f"passphrase: {WORDS}", WORDS),
    (f"pass={WORD}", WORD),
    (f"pass: {PLAIN}", PLAIN),
    (f"pwd={WORD}", WORD),
    (f"pw={WORD}", WORD),
    (f"pw: {PLAIN}", PLAIN),
    (f"psk={WORD}", WORD),
    (f"wpa_passphrase={WORD}", WORD),
    (f"Passwort: {PLAIN}", PLAIN),
    (f"Kennwort = {PLAIN}", PLAIN),
    (f"contraseña: {PLAIN}", PLAIN),
    (f"MQTT_PASSWORD={WORD}", WORD),
    (f"PGPASSWORD={WORD} pg_dump town", WORD),
    (f"mqttPassword: {WORD}", WORD),
    (f"http.password={WORD}", WORD),
    (f"host=db user=town password={WORD} dbname=town", WORD),
    (f"Server=db;User=town;Password={WORD};", WORD),
    (f"password => {WORD}", WORD),
    (f"password -> {WORD}", WORD),
    (f"password := {WORD}", WORD),
    (f"the password is {PLAIN}", PLAIN),
    (f"the password of r001 is {PLAIN}", PLAIN),
    (f"<password>{WORD}</password>", WORD),
    (f"https://camera.example/?user=a&password={WORD}&x=1", WORD),
    (f"body: user%3Da%26password%3D{WORD}", WORD),
    (f"token={PLAIN}", PLAIN),
    (f"token: {WORD}", WORD),
    (f'"access_token": "{WORD}"', WORD),
    (f"refreshToken={WORD}", WORD),
    (f"client_secret={WORD}", WORD),
    (f"secret = {WORD}", WORD),
    (f"api_key={WORD}", WORD),
    (f"apikey: {WORD}", WORD),
    (f"X-Api-Key: {WORD}", WORD),
    (f"key={WORD}", WORD),
    (f"private_key = {WORD}", WORD),
    (f"PrivateKey = {PADDED}", PADDED),
    (f"auth={WORD}", WORD),
    (f"auth: {WORD}", WORD),
    (f"credentials: town/{WORD}", WORD),
    (f"cookie={WORD}", WORD),
    (f"Cookie: lang=de; id={WORD}", WORD),
    (f"Set-Cookie: __Host-town={WORD}; Secure", WORD),
    (f"session_id={WORD}", WORD),
    (f"https://town.example/x?access_token={WORD}&y=1", WORD),
    (f"https://town.example/x?sig={WORD}", WORD),
    (f"Authorization: Bearer {TOKEN}", TOKEN),
    (f"Authorization: Basic {base64.b64encode(b'town:hunter2').decode()}", "dG93bjpodW50ZXIy"),
    (f'Authorization: Digest username="a", response="{WORD}"', WORD),
    (f"authorization={WORD}", WORD),
    (f"Proxy-Authorization: {WORD}", WORD),
    # A key and a value after a space.
    (f"mosquitto_sub --password {WORD} -t x", WORD),
    (f"--password '{WORDS}' -t x", WORDS),
    (f"--password={PLAIN}", PLAIN),
    (f"--api-token {PLAIN} run", PLAIN),
    (f"--pw {PLAIN} run", PLAIN),
    (f"mosquitto_sub -u town -P {PLAIN} -t x", PLAIN),
    (f"curl -u town:{PLAIN} https://x.example", PLAIN),
    (f"password {WORD}", WORD),
    (f"password {PLAIN}", PLAIN),
    (f'password "{WORDS}"', WORDS),
    (f"tried the password {PLAIN}, then none", PLAIN),
    (f"user town pass {PLAIN}", PLAIN),
    (f"user town password {PLAIN}", PLAIN),
    (f"pw {PLAIN}", PLAIN),
    (f"the broker refused token {WORD}", WORD),
    (f"Bearer {WORD}99", WORD),
    # A shape.
    (f"postgresql://town:{WORD}@db.example:5432/town", WORD),
    (f"mqtts://{PLAIN}@broker.example", PLAIN),
    (f"refused {TOKEN}", TOKEN),
    (f"refused {LETTERS}", LETTERS),
    (f"got {JWT}", "c2lnbmF0dXJl"),
    (f"peer {PADDED} is up", PADDED),
    ("town:$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaGVkcGFzc3dvcmQ", "aGFzaGVkcGFzc3dvcmQ"),
    (f"-----BEGIN EC PRIVATE KEY-----\n{PEM}\n-----END EC PRIVATE KEY-----", PEM),
    (f"COMMAND=/usr/bin/commonwatt join {LABEL}", LABEL),
    (f"typed: {LABEL.replace(' ', '-').title()}", LABEL.split()[3].title()),
]

HARMLESS = """
a wrong name or password from 127.0.0.1
the password has at least 12 characters
a password is required, and none was given
the password of anna was changed; other sessions have ended
set a password first: commonwatt gateway password
forgot the password? ask an administrator
its password file is missing: /etc/commonwatt/broker-password
token refused for meter 10001 of r001
the token of meter 10001 does not belong to it
no key: the file is damaged
add http_password = "page-password.json" and run: commonwatt gateway password
http = 10.1.2.3:80 is beyond this machine, without http_password: the page is not served
a password without a user name, which MQTT 3.1.1 forbids
tokens: 47 devices have one, 3 have none
refused: identity, token or username
the broker has no token for r001; run: commonwatt utility register
http_password names no file
a secret is readable by others: chmod 600 /var/lib/commonwatt/r001/gateway-tokens.json
key 47 of the batch is there twice
keys of the clique: 3, the newest of 2026-11-15
the key of the certificate is another one: /var/lib/commonwatt/r001/gateway.pem
private key: /var/lib/commonwatt/r001/gateway.pem can't be read
auth method EXTERNAL is not offered
authorized as r001
session of 10001 resumed, 12 messages wait
cookies are not needed
user mosquitto connected from 10.1.2.3:51234
pass the bundle on to the technician
2026-11-15 12:00:01,123 INFO gateway.links: connected with head-end.example:8883, TLS 1.3
meter 18446744073709551615: record 4294967295 of log 2, generation 7, is a conflict
/var/lib/commonwatt/r001/gateway.db-wal, 4194304 bytes
/usr/lib/commonwatt/lib/python3/site-packages/commonwatt/care/installing.py line 123
commonwatt_gateway_renewals_total{result="went_back"} 3
commonwatt_broker_certificate_expiry_timestamp_seconds 1800000000
homeassistant/sensor/commonwatt_r001/house_3_battery_level/config
commonwatt/1/r001/meters/10001/command/acknowledgement
GatewayReleaseDiffers: r001 runs 0.4.1~dev20261115, the town 0.4.0
alert CommonwattGatewayCertificateExpiringSoon is silenced
https://utility.example.org:8444/release?version=0.4.1 answered 503
sha256 of the package differs; fetch it again
the utility's release can not be read again before the next hour; wait until then
File "/usr/lib/python3.11/asyncio/base_events.py", line 1922, in _run_once
{"microgrid": "r001", "backlog": {"parts": 12}, "tokens_loaded": true, "takeover": {"epoch": 9}}
memory: MemTotal: 8000000 kB, MemAvailable: 4000000 kB; most of this process: 90000 kB
3 passwords are older than a year
1 passed, 2 failed in 3.2 s
""".strip().splitlines()


def test_secrets_are_removed_by_key_and_by_shape() -> None:
    assert len(FORMS) == 92
    left = [line for line, secret in FORMS if any(part in without_secrets(line) for part in parts_of(secret))]
    assert len(left) <= 2, left


def parts_of(secret: str) -> list[str]:
    """Return a secret's words: none of them may be left."""
    return [word for word in re.split(r"[\s]", secret) if word]


@pytest.mark.parametrize("line", HARMLESS)
def test_a_line_without_a_secret_stays_as_it_is(line: str) -> None:
    assert without_secrets(line) == line


def test_what_stands_around_a_secret_stays() -> None:
    assert without_secrets(f"host=db password={WORD} dbname=town") == "host=db password=[removed] dbname=town"
    assert without_secrets(f"label of r001: {LABEL}; it is used") == "label of r001: [removed]; it is used"
    assert without_secrets(f"token={WORD} of meter 10001") == "token=[removed] of meter 10001"
    assert without_secrets(f"password = {WORDS}\nlevel = 75") == "password = [removed]\nlevel = 75"
    again = without_secrets(f"password: {WORDS}")
    assert without_secrets(again) == again


def test_random_tokens_are_removed_with_or_without_a_digit() -> None:
    rng = random.Random(1)
    tokens = [base64.urlsafe_b64encode(rng.randbytes(32)).rstrip(b"=").decode() for _ in range(5_000)]
    lines = without_secrets("\n".join(f"refused {token}" for token in tokens)).splitlines()
    assert sum(line == "refused [removed]" for line in lines) >= 4_998


@pytest.mark.parametrize("piece", ["a", "Aa", "password", "pass ", "key=", '"', "\\", "able ", "://a:", "x/Y", "eyJ."])
def test_long_lines_take_no_time(piece: str) -> None:
    begun = time.process_time()
    without_secrets(piece * (100_000 // len(piece)))
    assert time.process_time() - begun < 2


FINGERPRINT = "c0ffee" + "0" * 58


def test_a_code_has_64_random_bits_and_its_towns_fingerprint() -> None:
    codes = [Code.new(FINGERPRINT) for _ in range(100)]
    assert len({code.content[:8] for code in codes}) == 100
    for code in codes:
        assert len(code.words.split()) == 8
        assert Code.parse(f"  {code.words.upper()}\n") == code
        assert code.is_of(FINGERPRINT)
        assert not code.is_of("00" * 32)


def test_words_that_differ_are_refused_before_anything_is_sent() -> None:
    words = Code.new(FINGERPRINT).words.split()
    with pytest.raises(ConfigError, match="a code has 8 words, but here are 7"):
        Code.parse(" ".join(words[1:]))
    with pytest.raises(ConfigError, match=r"word 2, 'abandn', is in no code; is it abandon"):
        Code.parse(" ".join([words[0], "abandn", *words[2:]]))
    with pytest.raises(ConfigError, match="word 8, '1234567', is in no code; is it another word"):
        Code.parse(" ".join([*words[:7], "1234567"]))


def test_nearly_every_exchanged_word_is_found_by_the_checksum() -> None:
    words, other = Code.new(FINGERPRINT).words.split(), Code.new("ab" * 32).words.split()
    accepted = 0
    for at in range(8):
        for word in other:
            try:
                accepted += Code.parse(" ".join([*words[:at], word, *words[at + 1 :]])).words != " ".join(words)
            except ConfigError as error:
                assert "one is wrong, or two are swapped" in str(error)  # noqa: PT017 - of most of many
    assert accepted < 8


def test_the_text_of_a_qr_code_has_address_and_fingerprint_too() -> None:
    code = Code.new(FINGERPRINT)
    made = Invitation(code=code, addresses=("utility.example.org:8444", "10.0.0.2:8444"), fingerprint=FINGERPRINT)
    assert Invitation.parse(f"{made.text}\n") == made
    assert Invitation.parse(code.words) == Invitation(code=code)
    for text in (
        made.text.replace(FINGERPRINT, "ab" * 32),
        made.text.replace(FINGERPRINT, FINGERPRINT[2:]),
        made.text.replace(FINGERPRINT, "no fingerprint"),
        made.text.replace(":8444", ""),
        "commonwatt-join",
    ):
        with pytest.raises(ConfigError):
            Invitation.parse(text)

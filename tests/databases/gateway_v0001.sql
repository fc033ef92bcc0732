-- A gateway's store of schema 1, as the release that made that schema left it. The order of the tables counts.
PRAGMA user_version = 1;
BEGIN;
CREATE TABLE part (
    id INTEGER PRIMARY KEY AUTOINCREMENT, meter INTEGER NOT NULL, type INTEGER NOT NULL, quarter INTEGER NOT NULL,
    payload BLOB NOT NULL, relayed INTEGER NOT NULL, joined INTEGER NOT NULL);
CREATE INDEX part_to_join ON part (quarter) WHERE joined = 0;
CREATE INDEX part_block ON part (quarter, meter, type);
CREATE INDEX part_unsent ON part (quarter, id) WHERE relayed IS NOT 5 AND relayed IS NOT 6;
CREATE INDEX part_coarse ON part (quarter, meter, type) WHERE relayed IS NOT 0 AND relayed IS NOT 6;
CREATE TABLE event (
    meter INTEGER NOT NULL, generation INTEGER NOT NULL, id INTEGER NOT NULL, previous INTEGER NOT NULL,
    new INTEGER NOT NULL, time INTEGER NOT NULL, relayed INTEGER NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (meter, generation, id));
CREATE INDEX event_unsent ON event (time) WHERE relayed IS NOT 6;
CREATE TABLE letter (
    number INTEGER PRIMARY KEY AUTOINCREMENT, meter INTEGER NOT NULL, log INTEGER NOT NULL, reason INTEGER NOT NULL,
    generation INTEGER NOT NULL, id INTEGER NOT NULL, time INTEGER NOT NULL, content BLOB NOT NULL,
    relayed INTEGER NOT NULL, crc INTEGER NOT NULL, UNIQUE (meter, log, reason, generation, id, content));
CREATE INDEX letter_unsent ON letter (number) WHERE relayed IS NOT 6;
CREATE TABLE coverage (
    meter INTEGER NOT NULL, log INTEGER NOT NULL, generation INTEGER NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (meter, log, generation, first));
CREATE TABLE meter (
    meter INTEGER PRIMARY KEY, push INTEGER NOT NULL, minimum_percent INTEGER, capacity INTEGER, time INTEGER NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE desired (
    meter INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, epoch_counter INTEGER NOT NULL,
    epoch_rank INTEGER NOT NULL, seq INTEGER NOT NULL, until INTEGER, weight INTEGER, confirmed INTEGER NOT NULL,
    crc INTEGER NOT NULL, PRIMARY KEY (meter, kind));
CREATE TABLE period (job TEXT PRIMARY KEY, period INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL);
INSERT INTO part VALUES (1, 1, 3, 1980000, X'000107002dd32ed8', 6, 0);
INSERT INTO part VALUES (2, 2, 3, 1980001, X'00010700fb84bc6b', 0, 0);
INSERT INTO part VALUES (3, 1, 3, 1980002, X'0001070057137db8', 0, 0);
INSERT INTO part VALUES (4, 2, 3, 1980003, X'000107008144ef0b', 0, 0);
INSERT INTO event VALUES (1, 1, 1, 0, 1, 1782000000, 0, 664524372);
INSERT INTO letter VALUES (1, 1, 1, 15, 1, 501, 1782000000, X'000000000000000000000000000000000000000000000000000000000000000000000000', 0, 4150704371);
INSERT INTO coverage VALUES (1, 1, 1, 1, 500, 1424540215);
INSERT INTO meter VALUES (1, 1, 50, 28800000, 1782000000, 575422849);
INSERT INTO desired VALUES (1, 'sharing', 'off', 5, 0, 3, NULL, NULL, 1, 1962224950);
INSERT INTO period VALUES ('relay_s', 29700000, 2993655180);
INSERT INTO setting VALUES ('schema', '1', 1518755311);
INSERT INTO setting VALUES ('store_id', '6290965058799535099', 1467434073);
INSERT INTO setting VALUES ('utility_store', '123', 627499654);
INSERT INTO setting VALUES ('epoch', '5,0', 1478014175);
INSERT INTO setting VALUES ('starts', '9', 2899799628);
INSERT INTO setting VALUES ('relayed_slots', '60', 1339695069);
COMMIT;

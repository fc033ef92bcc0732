BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE command (
	id VARCHAR(64) NOT NULL, 
	controller VARCHAR(16) NOT NULL, 
	message TEXT NOT NULL, 
	created BIGINT NOT NULL, 
	until BIGINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	outcome TEXT, 
	CONSTRAINT pk_command PRIMARY KEY (id), 
	CONSTRAINT fk_command_controller FOREIGN KEY(controller) REFERENCES controller (id)
);
INSERT INTO "command" VALUES('gap-5fbb5c4b15d64cbe-1','r001','{"v":1,"id":"gap-5fbb5c4b15d64cbe-1","cmd":"get","until":1800009300,"at":"gateway","mode":"lossless","blocks":[["10001",2,2000002,"fffffffffffffff"],["10001",3,2000002,"fffffffffffffff"],["10001",2,2000003,"fffffffffffffff"],["10001",3,2000003,"ffffffffffffc00"],["10001",2,2000004,"fffffffffffffff"],["10001",3,2000004,"fffffffffffffff"],["10001",2,2000005,"fffffffffffffff"],["10001",3,2000005,"fffffffffffffff"],["10001",2,2000006,"fffffffffffffff"],["10001",3,2000006,"fffffffffffffff"],["10001",2,2000007,"fffffffffffffff"],["10001",3,2000007,"fffffffffffffff"],["10001",2,2000008,"fffffffffffffff"],["10001",3,2000008,"fffffffffffffff"],["10001",2,2000009,"fffffffffffffff"],["10001",3,2000009,"fffffffffffffff"]]}',1800009000,1800009300,'open',NULL);
INSERT INTO "command" VALUES('c1','r001','{"cmd":"get","at":"x"}',1,9,'open',NULL);
CREATE TABLE compacted (
	total BIGINT, 
	first_reading BIGINT, 
	last_reading BIGINT, 
	min_reading BIGINT, 
	max_reading BIGINT, 
	quarter INTEGER NOT NULL, 
	meter_no INTEGER NOT NULL, 
	received_minute INTEGER NOT NULL, 
	record_type SMALLINT NOT NULL, 
	sender_no SMALLINT NOT NULL, 
	owner_no SMALLINT NOT NULL, 
	exact SMALLINT NOT NULL, 
	averaged SMALLINT NOT NULL, 
	conflicts SMALLINT NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT pk_compacted PRIMARY KEY (quarter, meter_no, record_type)
);
INSERT INTO "compacted" VALUES(NULL,1000000000000,1000000000059,1000000000000,1000000000059,2000001,1,30000000,2,1,1,60,0,0,X'040600E8D4A51000010100BDF05C25');
INSERT INTO "compacted" VALUES(6352,100,110,100,112,2000000,1,30000000,3,1,1,60,0,0,X'000164040718293A4B5C60718293A4B5C60718293A4B5C60718293A4B5C60718293AA523F9BC');
INSERT INTO "compacted" VALUES(6246,100,110,-3,112,2000001,1,30000000,3,0,1,60,0,2,X'0801FD07CFBB46FD3C0071D7CB673DB9F768DFA786AE3AF96CE7B73EED1BF4F0D5C75F2D9CF6E7DDA37E9E1AB8EBE5B39EDCFBB46FD3C357100205000000000000E6A9060000000000000067FB01D16B');
INSERT INTO "compacted" VALUES(50,5,5,5,5,2000003,1,30000000,3,1,1,0,10,0,X'0300000000000003FF00000000000003FF0105001B68A9B0');
INSERT INTO "compacted" VALUES(3,1,2,1,2,2005000,3,30000000,3,1,1,2,0,0,X'0100000000000000180101014065E9255E');
CREATE TABLE conflict_sender (
	quarter INTEGER NOT NULL, 
	meter_no INTEGER NOT NULL, 
	record_type SMALLINT NOT NULL, 
	slot SMALLINT NOT NULL, 
	value BIGINT NOT NULL, 
	sender_no SMALLINT NOT NULL, 
	CONSTRAINT pk_conflict_sender PRIMARY KEY (quarter, meter_no, record_type, slot, value, sender_no)
);
CREATE TABLE controller (
	id VARCHAR(16) NOT NULL, 
	number INTEGER NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	address VARCHAR(45) NOT NULL, 
	CONSTRAINT pk_controller PRIMARY KEY (id), 
	CONSTRAINT uq_controller_number UNIQUE (number)
);
INSERT INTO "controller" VALUES('r001',1,'residential','10.0.39.16');
INSERT INTO "controller" VALUES('r002',2,'residential','10.0.78.32');
CREATE TABLE declared_minimum (
	meter_no INTEGER NOT NULL, 
	percent INTEGER NOT NULL, 
	said BIGINT NOT NULL, 
	CONSTRAINT pk_declared_minimum PRIMARY KEY (meter_no), 
	CONSTRAINT fk_declared_minimum_meter_no FOREIGN KEY(meter_no) REFERENCES meter (no)
);
INSERT INTO "declared_minimum" VALUES(1,25,7);
CREATE TABLE event (
	meter_no INTEGER NOT NULL, 
	generation BIGINT NOT NULL, 
	record_id BIGINT NOT NULL, 
	previous_state INTEGER NOT NULL, 
	new_state INTEGER NOT NULL, 
	time BIGINT NOT NULL, 
	sender VARCHAR(16) NOT NULL, 
	owner VARCHAR(16) NOT NULL, 
	crc BIGINT NOT NULL, 
	CONSTRAINT pk_event PRIMARY KEY (meter_no, generation, record_id), 
	CONSTRAINT fk_event_meter_no FOREIGN KEY(meter_no) REFERENCES meter (no)
);
INSERT INTO "event" VALUES(1,1,-1,0,1,1800000000,'r001','r001',2628379905);
CREATE TABLE gap (
	meter_no INTEGER NOT NULL, 
	record_type SMALLINT NOT NULL, 
	quarter INTEGER NOT NULL, 
	mask BIGINT NOT NULL, 
	absent BIGINT NOT NULL, 
	asked INTEGER NOT NULL, 
	next_time BIGINT NOT NULL, 
	is_open BOOLEAN NOT NULL, touched INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_gap PRIMARY KEY (meter_no, record_type, quarter), 
	CONSTRAINT fk_gap_meter_no FOREIGN KEY(meter_no) REFERENCES meter (no)
);
INSERT INTO "gap" VALUES(1,2,2000002,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,2,2000003,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,2,2000004,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,2,2000005,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,2,2000006,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,2,2000007,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,2,2000008,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,2,2000009,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,3,2000002,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,3,2000003,1152921504606845952,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,3,2000004,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,3,2000005,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,3,2000006,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,3,2000007,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,3,2000008,1152921504606846975,0,1,1800009300,1,0);
INSERT INTO "gap" VALUES(1,3,2000009,1152921504606846975,0,1,1800009300,1,0);
CREATE TABLE gateway_seen (
	controller VARCHAR(16) NOT NULL, 
	time BIGINT NOT NULL, 
	heartbeat TEXT NOT NULL, 
	CONSTRAINT pk_gateway_seen PRIMARY KEY (controller), 
	CONSTRAINT fk_gateway_seen_controller FOREIGN KEY(controller) REFERENCES controller (id)
);
INSERT INTO "gateway_seen" VALUES('r001',5,'{}');
CREATE TABLE held (
	meter_no INTEGER NOT NULL, 
	record_type SMALLINT NOT NULL, 
	quarter INTEGER NOT NULL, 
	letter_no INTEGER NOT NULL, 
	mask BIGINT NOT NULL, 
	CONSTRAINT pk_held PRIMARY KEY (meter_no, record_type, quarter, letter_no), 
	CONSTRAINT fk_held_letter_no FOREIGN KEY(letter_no) REFERENCES letter (no), 
	CONSTRAINT fk_held_meter_no FOREIGN KEY(meter_no) REFERENCES meter (no)
);
CREATE TABLE letter (
	no INTEGER NOT NULL, 
	meter BIGINT NOT NULL, 
	log SMALLINT NOT NULL, 
	generation BIGINT NOT NULL, 
	record_id BIGINT NOT NULL, 
	reason SMALLINT NOT NULL, 
	crc BIGINT NOT NULL, 
	time BIGINT NOT NULL, 
	sender VARCHAR(16) NOT NULL, 
	content BLOB NOT NULL, 
	state VARCHAR(8) DEFAULT '' NOT NULL, 
	decided BIGINT, 
	decided_by VARCHAR(64), 
	why VARCHAR(200), 
	CONSTRAINT pk_letter PRIMARY KEY (no), 
	CONSTRAINT uq_letter UNIQUE (meter, log, generation, record_id, reason, crc)
);
INSERT INTO "letter" VALUES(1,-1,1,1,9,4,891568578,5,'r001',X'616263','',NULL,NULL,NULL);
CREATE TABLE meter (
	no INTEGER NOT NULL, 
	id BIGINT NOT NULL, 
	label VARCHAR(20) NOT NULL, 
	microgrid VARCHAR(16) NOT NULL, 
	address VARCHAR(45) NOT NULL, 
	location VARCHAR(200) NOT NULL, 
	function VARCHAR(16) NOT NULL, 
	direction VARCHAR(16) NOT NULL, 
	account INTEGER NOT NULL, 
	record_types VARCHAR(32) NOT NULL, 
	service_amps INTEGER NOT NULL, 
	battery_capacity BIGINT, 
	minimum_percent INTEGER, 
	push BOOLEAN NOT NULL, 
	crc BIGINT NOT NULL, 
	CONSTRAINT pk_meter PRIMARY KEY (no), 
	CONSTRAINT fk_meter_microgrid FOREIGN KEY(microgrid) REFERENCES controller (id), 
	CONSTRAINT uq_meter_id UNIQUE (id), 
	CONSTRAINT uq_meter_label UNIQUE (label)
);
INSERT INTO "meter" VALUES(1,10001,'10001','r001','10.0.39.17','house 1','house','outgoing',1,'1,2,3',200,28800000,50,0,3239375079);
INSERT INTO "meter" VALUES(2,10002,'10002','r001','10.0.39.18','house 1','house','incoming',1,'3',200,NULL,NULL,0,2865430590);
INSERT INTO "meter" VALUES(3,10003,'10003','r001','10.0.39.19','house 2','house','outgoing',2,'1,2,3',200,28800000,75,1,1041458595);
INSERT INTO "meter" VALUES(4,10004,'10004','r001','10.0.39.20','house 2','house','incoming',2,'3',200,NULL,NULL,1,518432103);
INSERT INTO "meter" VALUES(5,10005,'10005','r001','10.0.39.21','boundary','boundary','outgoing',0,'3',4000,NULL,NULL,1,2996711485);
INSERT INTO "meter" VALUES(6,10006,'10006','r001','10.0.39.22','boundary','boundary','incoming',0,'3',4000,NULL,NULL,1,225567700);
INSERT INTO "meter" VALUES(7,20001,'20001','r002','10.0.78.33','house 1','house','outgoing',3,'1,2,3',200,28800000,75,0,124804187);
INSERT INTO "meter" VALUES(8,20002,'20002','r002','10.0.78.34','house 1','house','incoming',3,'3',200,NULL,NULL,0,2044400317);
INSERT INTO "meter" VALUES(9,20003,'20003','r002','10.0.78.35','house 2','house','outgoing',4,'1,2,3',200,28800000,25,1,3905341886);
INSERT INTO "meter" VALUES(10,20004,'20004','r002','10.0.78.36','house 2','house','incoming',4,'3',200,NULL,NULL,1,2952209860);
INSERT INTO "meter" VALUES(11,20005,'20005','r002','10.0.78.37','boundary','boundary','outgoing',0,'3',4000,NULL,NULL,1,3241484993);
INSERT INTO "meter" VALUES(12,20006,'20006','r002','10.0.78.38','boundary','boundary','incoming',0,'3',4000,NULL,NULL,1,2924698227);
CREATE TABLE part (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	quarter INTEGER NOT NULL, 
	meter_no INTEGER NOT NULL, 
	received_minute INTEGER NOT NULL, 
	record_type SMALLINT NOT NULL, 
	sender_no SMALLINT NOT NULL, 
	owner_no SMALLINT NOT NULL, 
	payload BLOB NOT NULL
);
INSERT INTO "part" VALUES(13,2000003,1,30000000,3,1,1,X'01000000000000000101010002B09CCB');
INSERT INTO "part" VALUES(14,2000007,1,30000000,3,1,1,X'010000000000000002010200FB910A70');
INSERT INTO "part" VALUES(15,2000007,1,30000001,3,1,1,X'010000000000000004010300C7E164ED');
CREATE TABLE period (
	job VARCHAR(32) NOT NULL, 
	start BIGINT NOT NULL, 
	until BIGINT NOT NULL, 
	due BIGINT NOT NULL, 
	name VARCHAR(32) NOT NULL, 
	attempts INTEGER NOT NULL, 
	lease_until BIGINT, 
	done BIGINT, 
	CONSTRAINT pk_period PRIMARY KEY (job, start)
);
CREATE TABLE series (
	meter_no INTEGER NOT NULL, 
	record_type SMALLINT NOT NULL, 
	first_quarter INTEGER NOT NULL, 
	scanned_from INTEGER, 
	scanned_until INTEGER, 
	CONSTRAINT pk_series PRIMARY KEY (meter_no, record_type), 
	CONSTRAINT fk_series_meter_no FOREIGN KEY(meter_no) REFERENCES meter (no)
);
INSERT INTO "series" VALUES(1,3,2000000,2000000,2000000);
INSERT INTO "series" VALUES(1,2,2000001,2000001,2000001);
INSERT INTO "series" VALUES(3,3,2005000,NULL,NULL);
CREATE TABLE setting (
	"key" VARCHAR(32) NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_setting PRIMARY KEY ("key")
);
INSERT INTO "setting" VALUES('store_id','4711');
INSERT INTO "setting" VALUES('town','{"name": "Centertown", "timezone": "America/New_York", "controllers": 2, "meters": 8, "boundary_meters": 4, "batteries": 4, "accounts": 4, "average_w": 4800, "battery_capacity_mwh": 57600000, "peak_start_hour": 15, "peak_end_hour": 21, "peak_factor": 1.5}');
INSERT INTO "setting" VALUES('registry_revision','1');
INSERT INTO "setting" VALUES('gap_number','2');
INSERT INTO "setting" VALUES('gap_watermark','12');
CREATE TABLE tally (
	controller VARCHAR(16) NOT NULL, 
	batches BIGINT NOT NULL, 
	blocks BIGINT NOT NULL, 
	slots BIGINT NOT NULL, 
	events BIGINT NOT NULL, 
	letters BIGINT NOT NULL, 
	held BIGINT NOT NULL, 
	event_conflicts BIGINT NOT NULL, 
	last_batch BIGINT NOT NULL, 
	CONSTRAINT pk_tally PRIMARY KEY (controller), 
	CONSTRAINT fk_tally_controller FOREIGN KEY(controller) REFERENCES controller (id)
);
INSERT INTO "tally" VALUES('r001',11,10,197,1,1,0,0,1800000000);
CREATE INDEX ix_letter_state ON letter (state) WHERE state <> '';
CREATE INDEX ix_command_state ON command (state);
CREATE INDEX ix_meter_microgrid ON meter (microgrid);
CREATE INDEX ix_event_meter_no_time ON event (meter_no, time);
CREATE INDEX ix_gap_is_open_next_time ON gap (is_open, next_time);
CREATE INDEX ix_compacted_conflicts ON compacted (owner_no) WHERE conflicts > 0;
CREATE INDEX ix_part_key ON part (quarter, meter_no, record_type);
CREATE INDEX ix_gap_touched ON gap (touched) WHERE touched > 0;
CREATE VIEW block AS
SELECT m.label AS meter, m.microgrid AS microgrid, c.record_type AS record_type,
       c.quarter * CAST(900 AS BIGINT) AS start,
       c.exact AS exact, c.averaged AS averaged, 60 - c.exact - c.averaged AS missing, c.conflicts AS conflicts,
       c.total AS total, c.first_reading AS first_reading, c.last_reading AS last_reading,
       c.min_reading AS min_reading, c.max_reading AS max_reading
FROM compacted AS c JOIN meter AS m ON m.no = c.meter_no;
CREATE INDEX ix_period_open ON period (job, start) WHERE done IS NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('part',15);
COMMIT;

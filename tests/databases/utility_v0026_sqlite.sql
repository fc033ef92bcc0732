BEGIN TRANSACTION;
CREATE TABLE account (
	number INTEGER NOT NULL, 
	made BIGINT NOT NULL, 
	CONSTRAINT pk_account PRIMARY KEY (number)
);
INSERT INTO "account" VALUES(1,0);
INSERT INTO "account" VALUES(2,0);
INSERT INTO "account" VALUES(3,0);
INSERT INTO "account" VALUES(4,0);
CREATE TABLE account_difference (
	meter BIGINT NOT NULL, 
	told INTEGER NOT NULL, 
	registered INTEGER NOT NULL, 
	first BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	reports BIGINT NOT NULL, 
	CONSTRAINT pk_account_difference PRIMARY KEY (meter, told)
);
CREATE TABLE account_term (
	account INTEGER NOT NULL, 
	what VARCHAR(8) NOT NULL, 
	since INTEGER NOT NULL, 
	value VARCHAR(64) NOT NULL, 
	crc BIGINT NOT NULL, 
	CONSTRAINT pk_account_term PRIMARY KEY (account, what, since)
);
CREATE TABLE alarm (
	"key" VARCHAR(255) NOT NULL, 
	since BIGINT NOT NULL, 
	stage VARCHAR(8) NOT NULL, 
	ended BIGINT, 
	labels TEXT NOT NULL, 
	summary VARCHAR(400) NOT NULL, 
	description VARCHAR(400) NOT NULL, 
	CONSTRAINT pk_alarm PRIMARY KEY ("key", since)
);
CREATE TABLE alarm_acknowledgement (
	no INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	"key" TEXT NOT NULL, 
	person VARCHAR(64) NOT NULL, 
	note VARCHAR(200) NOT NULL, 
	made BIGINT NOT NULL, 
	until BIGINT NOT NULL
);
CREATE TABLE alarm_silence (
	no INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	subject VARCHAR(400) NOT NULL, 
	ways TEXT NOT NULL, 
	person VARCHAR(64) NOT NULL, 
	note VARCHAR(200) NOT NULL, 
	made BIGINT NOT NULL, 
	start BIGINT NOT NULL, 
	until BIGINT NOT NULL, 
	foreign_ids TEXT NOT NULL
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0026');
CREATE TABLE api_token (
	no INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	person VARCHAR(32) NOT NULL, 
	label VARCHAR(64) NOT NULL, 
	roles VARCHAR(128) NOT NULL, 
	made BIGINT NOT NULL, 
	until BIGINT NOT NULL, 
	used BIGINT, 
	revoked BIGINT, 
	CONSTRAINT pk_api_token PRIMARY KEY (no), 
	CONSTRAINT fk_api_token_person FOREIGN KEY(person) REFERENCES person (name), 
	CONSTRAINT uq_api_token_digest UNIQUE (digest)
);
CREATE TABLE audit (
	no INTEGER NOT NULL, 
	time BIGINT NOT NULL, 
	person VARCHAR(32) NOT NULL, 
	via VARCHAR(8) NOT NULL, 
	address VARCHAR(64) NOT NULL, 
	action VARCHAR(48) NOT NULL, 
	subject VARCHAR(128) NOT NULL, 
	"before" TEXT, 
	"after" TEXT, 
	token BIGINT, 
	CONSTRAINT pk_audit PRIMARY KEY (no)
);
CREATE TABLE bill (
	run_no INTEGER NOT NULL, 
	account INTEGER NOT NULL, 
	cents BIGINT NOT NULL, 
	base VARCHAR(16), 
	content TEXT NOT NULL, 
	CONSTRAINT pk_bill PRIMARY KEY (run_no, account), 
	CONSTRAINT fk_bill_run_no FOREIGN KEY(run_no) REFERENCES bill_run (no)
);
CREATE TABLE bill_run (
	no INTEGER NOT NULL, 
	month VARCHAR(7) NOT NULL, 
	by_job VARCHAR(7), 
	state VARCHAR(16) NOT NULL, 
	policy VARCHAR(16) NOT NULL, 
	code VARCHAR(32) NOT NULL, 
	settled_no BIGINT NOT NULL, 
	previous_no BIGINT NOT NULL, 
	inputs_digest VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	root VARCHAR(64), 
	figures TEXT NOT NULL, 
	inputs BLOB NOT NULL, 
	made_by VARCHAR(32) NOT NULL, 
	made BIGINT NOT NULL, 
	checked_by VARCHAR(32), 
	checked BIGINT, 
	issued_by VARCHAR(32), 
	issued BIGINT, 
	secret BLOB, 
	leaves BLOB, 
	head TEXT, 
	CONSTRAINT pk_bill_run PRIMARY KEY (no), 
	CONSTRAINT uq_bill_run_by_job UNIQUE (by_job), 
	CONSTRAINT uq_bill_run_month_inputs UNIQUE (month, inputs_digest)
);
CREATE TABLE checked_day (
	day INTEGER NOT NULL, 
	meter_no INTEGER NOT NULL, 
	record_type SMALLINT NOT NULL, 
	energy BIGINT NOT NULL, 
	CONSTRAINT pk_checked_day PRIMARY KEY (day, meter_no, record_type)
);
CREATE TABLE command (
	id VARCHAR(64) NOT NULL, 
	controller VARCHAR(16) NOT NULL, 
	message TEXT NOT NULL, 
	created BIGINT NOT NULL, 
	until BIGINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	outcome TEXT, result VARCHAR(16), limits_import BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_command PRIMARY KEY (id), 
	CONSTRAINT fk_command_controller FOREIGN KEY(controller) REFERENCES controller (id)
);
INSERT INTO "command" VALUES('gap-5fbb5c4b15d64cbe-1','r001','{"v":1,"id":"gap-5fbb5c4b15d64cbe-1","cmd":"get","until":1800009300,"at":"gateway","mode":"lossless","blocks":[["10001",2,2000002,"fffffffffffffff"],["10001",3,2000002,"fffffffffffffff"],["10001",2,2000003,"fffffffffffffff"],["10001",3,2000003,"ffffffffffffc00"],["10001",2,2000004,"fffffffffffffff"],["10001",3,2000004,"fffffffffffffff"],["10001",2,2000005,"fffffffffffffff"],["10001",3,2000005,"fffffffffffffff"],["10001",2,2000006,"fffffffffffffff"],["10001",3,2000006,"fffffffffffffff"],["10001",2,2000007,"fffffffffffffff"],["10001",3,2000007,"fffffffffffffff"],["10001",2,2000008,"fffffffffffffff"],["10001",3,2000008,"fffffffffffffff"],["10001",2,2000009,"fffffffffffffff"],["10001",3,2000009,"fffffffffffffff"]]}',1800009000,1800009300,'open',NULL,NULL,0);
INSERT INTO "command" VALUES('c1','r001','{"cmd":"get","at":"x"}',1,9,'open',NULL,NULL,0);
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
CREATE TABLE complete_day (
	day INTEGER NOT NULL, 
	owner_no SMALLINT NOT NULL, 
	exact BIGINT DEFAULT '0' NOT NULL, 
	averaged BIGINT DEFAULT '0' NOT NULL, 
	quarantined BIGINT DEFAULT '0' NOT NULL, 
	refused BIGINT DEFAULT '0' NOT NULL, 
	off BIGINT DEFAULT '0' NOT NULL, 
	absent BIGINT DEFAULT '0' NOT NULL, 
	missing BIGINT DEFAULT '0' NOT NULL, 
	computed BIGINT DEFAULT '0' NOT NULL, 
	marks INTEGER NOT NULL, 
	CONSTRAINT pk_complete_day PRIMARY KEY (day, owner_no)
);
CREATE TABLE conflict_sender (
	quarter INTEGER NOT NULL, 
	meter_no INTEGER NOT NULL, 
	record_type SMALLINT NOT NULL, 
	slot SMALLINT NOT NULL, 
	value BIGINT NOT NULL, 
	sender_no SMALLINT NOT NULL, 
	CONSTRAINT pk_conflict_sender PRIMARY KEY (quarter, meter_no, record_type, slot, value, sender_no)
);
CREATE TABLE control_change (
	no INTEGER NOT NULL, 
	made BIGINT NOT NULL, 
	person VARCHAR(64) NOT NULL, 
	action VARCHAR(16) NOT NULL, 
	fields TEXT NOT NULL, 
	due BIGINT NOT NULL, 
	valid_s INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	undoes BIGINT, 
	ended BIGINT, 
	ended_by VARCHAR(64), 
	CONSTRAINT pk_control_change PRIMARY KEY (no)
);
CREATE TABLE control_target (
	change_no INTEGER NOT NULL, 
	controller VARCHAR(16) NOT NULL, 
	fields TEXT NOT NULL, 
	"before" TEXT, 
	command VARCHAR(64), 
	CONSTRAINT pk_control_target PRIMARY KEY (change_no, controller), 
	CONSTRAINT fk_control_target_change_no FOREIGN KEY(change_no) REFERENCES control_change (no), 
	CONSTRAINT fk_control_target_controller FOREIGN KEY(controller) REFERENCES controller (id)
);
CREATE TABLE control_version (
	controller VARCHAR(16) NOT NULL, 
	setting VARCHAR(32) NOT NULL, 
	change_no INTEGER NOT NULL, 
	CONSTRAINT pk_control_version PRIMARY KEY (controller, setting), 
	CONSTRAINT fk_control_version_controller FOREIGN KEY(controller) REFERENCES controller (id), 
	CONSTRAINT fk_control_version_change_no FOREIGN KEY(change_no) REFERENCES control_change (no)
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
CREATE TABLE correction (
	no INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	quarter INTEGER NOT NULL, 
	meter_no INTEGER NOT NULL, 
	record_type SMALLINT NOT NULL, 
	version SMALLINT NOT NULL, 
	owner_no SMALLINT NOT NULL, 
	method SMALLINT NOT NULL, 
	mask BIGINT NOT NULL, 
	energy BIGINT NOT NULL, 
	state VARCHAR(8) NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT uq_correction UNIQUE (quarter, meter_no, record_type, version)
);
CREATE TABLE correction_step (
	no INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	correction_no INTEGER NOT NULL, 
	time BIGINT NOT NULL, 
	person VARCHAR(64) NOT NULL, 
	state_before VARCHAR(8) NOT NULL, 
	state_after VARCHAR(8) NOT NULL, 
	why VARCHAR(200) NOT NULL
);
CREATE TABLE "declared_minimum" (
	meter_no INTEGER NOT NULL, 
	percent INTEGER NOT NULL, 
	said BIGINT NOT NULL, 
	CONSTRAINT pk_declared_minimum PRIMARY KEY (meter_no, said), 
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
CREATE TABLE finding (
	no INTEGER NOT NULL, 
	meter_no INTEGER NOT NULL, 
	record_type SMALLINT NOT NULL, 
	check_name VARCHAR(16) NOT NULL, 
	first_quarter INTEGER NOT NULL, 
	until_quarter INTEGER NOT NULL, 
	figure BIGINT NOT NULL, 
	threshold BIGINT NOT NULL, 
	found BIGINT NOT NULL, 
	closed BIGINT, 
	closed_by VARCHAR(64), 
	why VARCHAR(200), 
	CONSTRAINT pk_finding PRIMARY KEY (no), 
	CONSTRAINT uq_finding UNIQUE (meter_no, record_type, check_name, first_quarter)
);
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
	heartbeat TEXT NOT NULL, tuned BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_gateway_seen PRIMARY KEY (controller), 
	CONSTRAINT fk_gateway_seen_controller FOREIGN KEY(controller) REFERENCES controller (id)
);
INSERT INTO "gateway_seen" VALUES('r001',5,'{}',1);
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
CREATE TABLE holding (
	meter BIGINT NOT NULL, 
	since INTEGER NOT NULL, 
	until INTEGER, 
	account INTEGER NOT NULL, 
	crc BIGINT NOT NULL, 
	CONSTRAINT pk_holding PRIMARY KEY (meter, since)
);
INSERT INTO "holding" VALUES(10001,0,NULL,1,1836202129);
INSERT INTO "holding" VALUES(10002,0,NULL,1,286465354);
INSERT INTO "holding" VALUES(10003,0,NULL,2,2805051391);
INSERT INTO "holding" VALUES(10004,0,NULL,2,3271296319);
INSERT INTO "holding" VALUES(20001,0,NULL,3,3049424753);
INSERT INTO "holding" VALUES(20002,0,NULL,3,3382944426);
INSERT INTO "holding" VALUES(20003,0,NULL,4,468571419);
INSERT INTO "holding" VALUES(20004,0,NULL,4,2116059099);
CREATE TABLE installed (
	meter BIGINT NOT NULL, 
	place VARCHAR(200) NOT NULL, 
	building VARCHAR(200), 
	since INTEGER, 
	until INTEGER, 
	first_register BIGINT, 
	last_register BIGINT, 
	crc BIGINT NOT NULL, 
	CONSTRAINT pk_installed PRIMARY KEY (meter)
);
INSERT INTO "installed" VALUES(10001,'house 1',NULL,NULL,NULL,NULL,NULL,3806144431);
INSERT INTO "installed" VALUES(10002,'house 1',NULL,NULL,NULL,NULL,NULL,736705698);
INSERT INTO "installed" VALUES(10003,'house 2',NULL,NULL,NULL,NULL,NULL,938310476);
INSERT INTO "installed" VALUES(10004,'house 2',NULL,NULL,NULL,NULL,NULL,971488748);
INSERT INTO "installed" VALUES(10005,'boundary',NULL,NULL,NULL,NULL,NULL,961440705);
INSERT INTO "installed" VALUES(10006,'boundary',NULL,NULL,NULL,NULL,NULL,1194730343);
INSERT INTO "installed" VALUES(20001,'house 1',NULL,NULL,NULL,NULL,NULL,1498823168);
INSERT INTO "installed" VALUES(20002,'house 1',NULL,NULL,NULL,NULL,NULL,2422350093);
INSERT INTO "installed" VALUES(20003,'house 2',NULL,NULL,NULL,NULL,NULL,2355521251);
INSERT INTO "installed" VALUES(20004,'house 2',NULL,NULL,NULL,NULL,NULL,2188156995);
INSERT INTO "installed" VALUES(20005,'boundary',NULL,NULL,NULL,NULL,NULL,2140954277);
INSERT INTO "installed" VALUES(20006,'boundary',NULL,NULL,NULL,NULL,NULL,31725059);
CREATE TABLE invitation (
	digest VARCHAR(64) NOT NULL, 
	person VARCHAR(32) NOT NULL, 
	made BIGINT NOT NULL, 
	made_by VARCHAR(32) NOT NULL, 
	until BIGINT NOT NULL, 
	used BIGINT, 
	CONSTRAINT pk_invitation PRIMARY KEY (digest), 
	CONSTRAINT fk_invitation_person FOREIGN KEY(person) REFERENCES person (name)
);
CREATE TABLE job (
	name VARCHAR(32) NOT NULL, 
	paused BIGINT, 
	every_s INTEGER, 
	minute SMALLINT, 
	period VARCHAR(32), 
	done BIGINT, 
	took_ms BIGINT, 
	failed BIGINT, 
	error VARCHAR(500), 
	CONSTRAINT pk_job PRIMARY KEY (name)
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
	done BIGINT, took_ms BIGINT, error VARCHAR(500), waits_for VARCHAR(500), 
	CONSTRAINT pk_period PRIMARY KEY (job, start)
);
CREATE TABLE person (
	name VARCHAR(32) NOT NULL, 
	display VARCHAR(64) NOT NULL, 
	password VARCHAR(160), 
	state VARCHAR(8) NOT NULL, 
	account INTEGER, 
	created BIGINT NOT NULL, 
	created_by VARCHAR(32) NOT NULL, 
	link_by VARCHAR(32), 
	link_at BIGINT, 
	roles_by VARCHAR(32), 
	roles_at BIGINT, 
	factor_by VARCHAR(32), 
	factor_at BIGINT, 
	CONSTRAINT pk_person PRIMARY KEY (name)
);
CREATE TABLE person_role (
	person VARCHAR(32) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	CONSTRAINT pk_person_role PRIMARY KEY (person, role), 
	CONSTRAINT fk_person_role_person FOREIGN KEY(person) REFERENCES person (name)
);
CREATE TABLE plant_quarter (
	quarter INTEGER NOT NULL, 
	slots SMALLINT NOT NULL, 
	ordered BIGINT NOT NULL, 
	needed BIGINT NOT NULL, 
	sold BIGINT NOT NULL, 
	net BIGINT NOT NULL, 
	level BIGINT NOT NULL, 
	CONSTRAINT pk_plant_quarter PRIMARY KEY (quarter)
);
CREATE TABLE plant_seen (
	one SMALLINT NOT NULL, 
	time BIGINT NOT NULL, 
	report TEXT NOT NULL, 
	CONSTRAINT pk_plant_seen PRIMARY KEY (one)
);
CREATE TABLE purchase (
	quarter INTEGER NOT NULL, 
	id VARCHAR(64) NOT NULL, 
	energy BIGINT NOT NULL, 
	price INTEGER NOT NULL, 
	policy VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	inputs TEXT NOT NULL, 
	message TEXT NOT NULL, 
	created BIGINT NOT NULL, 
	until BIGINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	outcome TEXT, 
	CONSTRAINT pk_purchase PRIMARY KEY (quarter), 
	CONSTRAINT uq_purchase_id UNIQUE (id)
);
CREATE TABLE rates_told (
	controller VARCHAR(16) NOT NULL, 
	tariff VARCHAR(32) NOT NULL, 
	version SMALLINT NOT NULL, 
	month VARCHAR(7) NOT NULL, 
	command VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_rates_told PRIMARY KEY (controller, tariff), 
	CONSTRAINT fk_rates_told_controller FOREIGN KEY(controller) REFERENCES controller (id)
);
CREATE TABLE rates_version (
	name VARCHAR(32) NOT NULL, 
	version SMALLINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	effective INTEGER NOT NULL, 
	content TEXT NOT NULL, 
	source TEXT NOT NULL, 
	proposed_by VARCHAR(32) NOT NULL, 
	proposed BIGINT NOT NULL, 
	approved_by VARCHAR(32), 
	approved BIGINT, 
	CONSTRAINT pk_rates_version PRIMARY KEY (name, version)
);
CREATE TABLE ration (
	controller VARCHAR(16) NOT NULL, 
	quarter INTEGER NOT NULL, 
	supply VARCHAR(16) NOT NULL, 
	import_limit_w BIGINT, 
	reason TEXT NOT NULL, 
	until BIGINT NOT NULL, 
	command VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_ration PRIMARY KEY (controller), 
	CONSTRAINT fk_ration_controller FOREIGN KEY(controller) REFERENCES controller (id)
);
CREATE TABLE recovery_code (
	digest VARCHAR(64) NOT NULL, 
	person VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_recovery_code PRIMARY KEY (digest), 
	CONSTRAINT fk_recovery_code_person FOREIGN KEY(person) REFERENCES person (name)
);
CREATE TABLE registry_change (
	no INTEGER NOT NULL, 
	time BIGINT NOT NULL, 
	person VARCHAR(64) NOT NULL, 
	subject VARCHAR(40) NOT NULL, 
	"before" TEXT NOT NULL, 
	"after" TEXT NOT NULL, 
	CONSTRAINT pk_registry_change PRIMARY KEY (no)
);
CREATE TABLE relayed_day (
	controller VARCHAR(16) NOT NULL, 
	day INTEGER NOT NULL, 
	seconds BIGINT NOT NULL, 
	batches BIGINT NOT NULL, 
	blocks BIGINT NOT NULL, 
	slots BIGINT NOT NULL, 
	size BIGINT NOT NULL, 
	CONSTRAINT pk_relayed_day PRIMARY KEY (controller, day), 
	CONSTRAINT fk_relayed_day_controller FOREIGN KEY(controller) REFERENCES controller (id)
);
CREATE TABLE research_agreement (
	name VARCHAR(64) NOT NULL, 
	until BIGINT NOT NULL, 
	added BIGINT NOT NULL, 
	added_by VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_research_agreement PRIMARY KEY (name)
);
CREATE TABLE research_log (
	no INTEGER NOT NULL, 
	time BIGINT NOT NULL, 
	person VARCHAR(32) NOT NULL, 
	action VARCHAR(16) NOT NULL, 
	subject VARCHAR(64) NOT NULL, 
	detail TEXT NOT NULL, 
	CONSTRAINT pk_research_log PRIMARY KEY (no)
);
CREATE TABLE research_reader (
	agreement VARCHAR(64) NOT NULL, 
	person VARCHAR(32) NOT NULL, 
	added BIGINT NOT NULL, 
	added_by VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_research_reader PRIMARY KEY (agreement, person)
);
CREATE TABLE research_release (
	id VARCHAR(16) NOT NULL, 
	tier VARCHAR(16) NOT NULL, 
	since INTEGER NOT NULL, 
	until INTEGER NOT NULL, 
	options TEXT NOT NULL, 
	attacks TEXT NOT NULL, 
	groups TEXT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	asked BIGINT NOT NULL, 
	asked_by VARCHAR(32) NOT NULL, 
	decided BIGINT, 
	decided_by VARCHAR(32), 
	why VARCHAR(200), 
	CONSTRAINT pk_research_release PRIMARY KEY (id)
);
CREATE TABLE second_factor (
	person VARCHAR(32) NOT NULL, 
	secret VARCHAR(32), 
	since BIGINT, 
	last_step BIGINT NOT NULL, 
	guesses_until BIGINT NOT NULL, 
	offered VARCHAR(64), 
	offered_until BIGINT, 
	CONSTRAINT pk_second_factor PRIMARY KEY (person), 
	CONSTRAINT fk_second_factor_person FOREIGN KEY(person) REFERENCES person (name)
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
CREATE TABLE session (
	digest VARCHAR(64) NOT NULL, 
	person VARCHAR(32) NOT NULL, 
	csrf VARCHAR(64) NOT NULL, 
	opened BIGINT NOT NULL, 
	used BIGINT NOT NULL, 
	until BIGINT NOT NULL, 
	address VARCHAR(64) NOT NULL, 
	agent VARCHAR(128) NOT NULL, 
	CONSTRAINT pk_session PRIMARY KEY (digest), 
	CONSTRAINT fk_session_person FOREIGN KEY(person) REFERENCES person (name)
);
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
INSERT INTO "setting" VALUES('release','0.3');
CREATE TABLE settled (
	no INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	day INTEGER NOT NULL, 
	meter_no INTEGER NOT NULL, 
	computed_minute INTEGER NOT NULL, 
	version SMALLINT NOT NULL, 
	why SMALLINT NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT uq_settled UNIQUE (day, meter_no, version)
);
CREATE TABLE settled_day (
	day INTEGER NOT NULL, 
	owner_no SMALLINT NOT NULL, 
	convention VARCHAR(16) NOT NULL, 
	computed BIGINT NOT NULL, 
	missing INTEGER NOT NULL, 
	final BOOLEAN NOT NULL, 
	residual TEXT NOT NULL, 
	CONSTRAINT pk_settled_day PRIMARY KEY (day, owner_no)
);
CREATE TABLE settlement_due (
	day INTEGER NOT NULL, 
	owner_no SMALLINT NOT NULL, 
	marks INTEGER NOT NULL, 
	why SMALLINT NOT NULL, 
	CONSTRAINT pk_settlement_due PRIMARY KEY (day, owner_no)
);
CREATE TABLE sharing (
	quarter INTEGER NOT NULL, 
	owner_no SMALLINT NOT NULL, 
	version SMALLINT NOT NULL, 
	meter_no INTEGER NOT NULL, 
	given BIGINT NOT NULL, 
	received BIGINT NOT NULL, 
	CONSTRAINT pk_sharing PRIMARY KEY (quarter, owner_no, version, meter_no)
);
CREATE TABLE sharing_due (
	quarter INTEGER NOT NULL, 
	owner_no SMALLINT NOT NULL, 
	marks INTEGER NOT NULL, 
	CONSTRAINT pk_sharing_due PRIMARY KEY (quarter, owner_no)
);
CREATE TABLE sharing_quarter (
	quarter INTEGER NOT NULL, 
	owner_no SMALLINT NOT NULL, 
	version SMALLINT NOT NULL, 
	computed BIGINT NOT NULL, 
	complete BOOLEAN NOT NULL, 
	shared BIGINT NOT NULL, 
	CONSTRAINT pk_sharing_quarter PRIMARY KEY (quarter, owner_no, version)
);
CREATE TABLE started_login (
	digest VARCHAR(64) NOT NULL, 
	person VARCHAR(32) NOT NULL, 
	until BIGINT NOT NULL, 
	wrong INTEGER NOT NULL, 
	CONSTRAINT pk_started_login PRIMARY KEY (digest), 
	CONSTRAINT fk_started_login_person FOREIGN KEY(person) REFERENCES person (name)
);
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
CREATE TABLE usage_batteries (
	month INTEGER NOT NULL, 
	owner_no SMALLINT NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT pk_usage_batteries PRIMARY KEY (month, owner_no)
);
CREATE TABLE usage_day (
	day INTEGER NOT NULL, 
	class_no SMALLINT NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT pk_usage_day PRIMARY KEY (day, class_no)
);
CREATE TABLE usage_due (
	day INTEGER NOT NULL, 
	owner_no SMALLINT NOT NULL, 
	marks INTEGER NOT NULL, 
	CONSTRAINT pk_usage_due PRIMARY KEY (day, owner_no)
);
CREATE TABLE usage_month (
	imported BIGINT NOT NULL, 
	shared_in BIGINT NOT NULL, 
	exported BIGINT NOT NULL, 
	shared_out BIGINT NOT NULL, 
	generated BIGINT, 
	used BIGINT, 
	peak BIGINT NOT NULL, 
	slots BIGINT NOT NULL, 
	wanted BIGINT NOT NULL, 
	quarters BIGINT NOT NULL, 
	settled BIGINT NOT NULL, 
	missing BIGINT NOT NULL, 
	estimated BIGINT NOT NULL, 
	reduced_s BIGINT NOT NULL, 
	islanded_s BIGINT NOT NULL, 
	computed BIGINT NOT NULL, 
	peak_at INTEGER NOT NULL, 
	month INTEGER NOT NULL, 
	scope SMALLINT NOT NULL, 
	subject INTEGER NOT NULL, 
	owner_no SMALLINT NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT pk_usage_month PRIMARY KEY (month, scope, subject, owner_no)
);
CREATE TABLE usage_projection (
	low BIGINT, 
	middle BIGINT NOT NULL, 
	high BIGINT, 
	made BIGINT NOT NULL, 
	month INTEGER NOT NULL, 
	scope SMALLINT NOT NULL, 
	subject INTEGER NOT NULL, 
	quantity SMALLINT NOT NULL, 
	CONSTRAINT pk_usage_projection PRIMARY KEY (month, scope, subject, quantity)
);
CREATE TABLE weights_told (
	controller VARCHAR(16) NOT NULL, 
	since INTEGER NOT NULL, 
	weights TEXT NOT NULL, 
	command VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_weights_told PRIMARY KEY (controller, since), 
	CONSTRAINT fk_weights_told_controller FOREIGN KEY(controller) REFERENCES controller (id)
);
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
CREATE INDEX ix_audit_time ON audit (time);
CREATE INDEX ix_audit_token ON audit (token);
CREATE INDEX ix_api_token_person ON api_token (person);
CREATE INDEX ix_invitation_person ON invitation (person);
CREATE INDEX ix_recovery_code_person ON recovery_code (person);
CREATE INDEX ix_session_person ON session (person);
CREATE INDEX ix_started_login_person ON started_login (person);
CREATE INDEX ix_registry_change_subject ON registry_change (subject);
CREATE INDEX ix_purchase_open ON purchase (quarter) WHERE state = 'open';
CREATE INDEX ix_control_change_state ON control_change (state);
CREATE INDEX ix_control_target_controller ON control_target (controller, change_no);
CREATE INDEX ix_correction_state_meter ON correction (state, meter_no, record_type, quarter);
CREATE INDEX ix_correction_state_quarter ON correction (state, quarter);
CREATE INDEX ix_correction_step_correction_no ON correction_step (correction_no);
CREATE INDEX ix_finding_open ON finding (check_name) WHERE closed IS NULL;
CREATE UNIQUE INDEX ix_bill_run_issued ON bill_run (month) WHERE state = 'issued';
CREATE INDEX ix_usage_month_subject ON usage_month (scope, subject, month);
CREATE INDEX ix_alarm_ended ON alarm (ended);
CREATE INDEX ix_alarm_open ON alarm ("key") WHERE ended IS NULL;
CREATE INDEX ix_alarm_acknowledgement_until ON alarm_acknowledgement (until);
CREATE INDEX ix_alarm_silence_until ON alarm_silence (until);
CREATE INDEX ix_complete_day_due ON complete_day (day) WHERE marks > 0;
CREATE INDEX ix_command_controller_created ON command (controller, created);
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('part',15);
COMMIT;

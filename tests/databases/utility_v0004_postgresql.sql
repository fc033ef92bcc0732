SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.compacted (
    total bigint,
    first_reading bigint,
    last_reading bigint,
    min_reading bigint,
    max_reading bigint,
    quarter integer NOT NULL,
    meter_no integer NOT NULL,
    received_minute integer NOT NULL,
    record_type smallint NOT NULL,
    sender_no smallint NOT NULL,
    owner_no smallint NOT NULL,
    exact smallint NOT NULL,
    averaged smallint NOT NULL,
    conflicts smallint NOT NULL,
    payload bytea NOT NULL
)
PARTITION BY RANGE (quarter);
CREATE TABLE public.meter (
    no integer NOT NULL,
    id bigint NOT NULL,
    label character varying(20) NOT NULL,
    microgrid character varying(16) NOT NULL,
    address character varying(45) NOT NULL,
    location character varying(200) NOT NULL,
    function character varying(16) NOT NULL,
    direction character varying(16) NOT NULL,
    account integer NOT NULL,
    record_types character varying(32) NOT NULL,
    service_amps integer NOT NULL,
    battery_capacity bigint,
    minimum_percent integer,
    push boolean NOT NULL,
    crc bigint NOT NULL
);
CREATE VIEW public.block AS
 SELECT m.label AS meter,
    m.microgrid,
    c.record_type,
    (c.quarter * (900)::bigint) AS start,
    c.exact,
    c.averaged,
    ((60 - c.exact) - c.averaged) AS missing,
    c.conflicts,
    c.total,
    c.first_reading,
    c.last_reading,
    c.min_reading,
    c.max_reading
   FROM (public.compacted c
     JOIN public.meter m ON ((m.no = c.meter_no)));
CREATE TABLE public.command (
    id character varying(64) NOT NULL,
    controller character varying(16) NOT NULL,
    message text NOT NULL,
    created bigint NOT NULL,
    until bigint NOT NULL,
    state character varying(16) NOT NULL,
    outcome text
);
CREATE TABLE public.compacted_2027_01 (
    total bigint,
    first_reading bigint,
    last_reading bigint,
    min_reading bigint,
    max_reading bigint,
    quarter integer NOT NULL,
    meter_no integer NOT NULL,
    received_minute integer NOT NULL,
    record_type smallint NOT NULL,
    sender_no smallint NOT NULL,
    owner_no smallint NOT NULL,
    exact smallint NOT NULL,
    averaged smallint NOT NULL,
    conflicts smallint NOT NULL,
    payload bytea NOT NULL
);
CREATE TABLE public.compacted_2027_03 (
    total bigint,
    first_reading bigint,
    last_reading bigint,
    min_reading bigint,
    max_reading bigint,
    quarter integer NOT NULL,
    meter_no integer NOT NULL,
    received_minute integer NOT NULL,
    record_type smallint NOT NULL,
    sender_no smallint NOT NULL,
    owner_no smallint NOT NULL,
    exact smallint NOT NULL,
    averaged smallint NOT NULL,
    conflicts smallint NOT NULL,
    payload bytea NOT NULL
);
CREATE TABLE public.conflict_sender (
    quarter integer NOT NULL,
    meter_no integer NOT NULL,
    record_type smallint NOT NULL,
    slot smallint NOT NULL,
    value bigint NOT NULL,
    sender_no smallint NOT NULL
);
CREATE TABLE public.controller (
    id character varying(16) NOT NULL,
    number integer NOT NULL,
    kind character varying(16) NOT NULL,
    address character varying(45) NOT NULL
);
CREATE TABLE public.declared_minimum (
    meter_no integer NOT NULL,
    percent integer NOT NULL,
    said bigint NOT NULL
);
CREATE TABLE public.event (
    meter_no integer NOT NULL,
    generation bigint NOT NULL,
    record_id bigint NOT NULL,
    previous_state integer NOT NULL,
    new_state integer NOT NULL,
    "time" bigint NOT NULL,
    sender character varying(16) NOT NULL,
    owner character varying(16) NOT NULL,
    crc bigint NOT NULL
);
CREATE TABLE public.gap (
    meter_no integer NOT NULL,
    record_type smallint NOT NULL,
    quarter integer NOT NULL,
    mask bigint NOT NULL,
    absent bigint NOT NULL,
    asked integer NOT NULL,
    next_time bigint NOT NULL,
    is_open boolean NOT NULL,
    touched integer DEFAULT 0 NOT NULL
);
CREATE TABLE public.gateway_seen (
    controller character varying(16) NOT NULL,
    "time" bigint NOT NULL,
    heartbeat text NOT NULL
);
CREATE TABLE public.held (
    meter_no integer NOT NULL,
    record_type smallint NOT NULL,
    quarter integer NOT NULL,
    letter_no bigint NOT NULL,
    mask bigint NOT NULL
);
CREATE TABLE public.letter (
    no bigint NOT NULL,
    meter bigint NOT NULL,
    log smallint NOT NULL,
    generation bigint NOT NULL,
    record_id bigint NOT NULL,
    reason smallint NOT NULL,
    crc bigint NOT NULL,
    "time" bigint NOT NULL,
    sender character varying(16) NOT NULL,
    content bytea NOT NULL,
    state character varying(8) DEFAULT ''::character varying NOT NULL,
    decided bigint,
    decided_by character varying(64),
    why character varying(200)
);
CREATE SEQUENCE public.letter_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.letter_no_seq OWNED BY public.letter.no;
CREATE SEQUENCE public.meter_no_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.meter_no_seq OWNED BY public.meter.no;
CREATE TABLE public.part (
    id bigint NOT NULL,
    quarter integer NOT NULL,
    meter_no integer NOT NULL,
    received_minute integer NOT NULL,
    record_type smallint NOT NULL,
    sender_no smallint NOT NULL,
    owner_no smallint NOT NULL,
    payload bytea NOT NULL
)
WITH (vacuum_truncate='false', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_insert_scale_factor='0.5');
CREATE SEQUENCE public.part_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 100;
ALTER SEQUENCE public.part_id_seq OWNED BY public.part.id;
CREATE TABLE public.period (
    job character varying(32) NOT NULL,
    start bigint NOT NULL,
    until bigint NOT NULL,
    due bigint NOT NULL,
    name character varying(32) NOT NULL,
    attempts integer NOT NULL,
    lease_until bigint,
    done bigint
);
CREATE TABLE public.series (
    meter_no integer NOT NULL,
    record_type smallint NOT NULL,
    first_quarter integer NOT NULL,
    scanned_from integer,
    scanned_until integer
);
CREATE TABLE public.setting (
    key character varying(32) NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.tally (
    controller character varying(16) NOT NULL,
    batches bigint NOT NULL,
    blocks bigint NOT NULL,
    slots bigint NOT NULL,
    events bigint NOT NULL,
    letters bigint NOT NULL,
    held bigint NOT NULL,
    event_conflicts bigint NOT NULL,
    last_batch bigint NOT NULL
);
ALTER TABLE ONLY public.compacted ATTACH PARTITION public.compacted_2027_01 FOR VALUES FROM (1998624) TO (2001600);
ALTER TABLE ONLY public.compacted ATTACH PARTITION public.compacted_2027_03 FOR VALUES FROM (2004288) TO (2007264);
ALTER TABLE ONLY public.letter ALTER COLUMN no SET DEFAULT nextval('public.letter_no_seq'::regclass);
ALTER TABLE ONLY public.meter ALTER COLUMN no SET DEFAULT nextval('public.meter_no_seq'::regclass);
ALTER TABLE ONLY public.part ALTER COLUMN id SET DEFAULT nextval('public.part_id_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('0004');
INSERT INTO public.command VALUES ('gap-289f935e528efde7-1', 'r001', '{"v":1,"id":"gap-289f935e528efde7-1","cmd":"get","until":1800009300,"at":"gateway","mode":"lossless","blocks":[["10001",2,2000002,"fffffffffffffff"],["10001",3,2000002,"fffffffffffffff"],["10001",2,2000003,"fffffffffffffff"],["10001",3,2000003,"ffffffffffffc00"],["10001",2,2000004,"fffffffffffffff"],["10001",3,2000004,"fffffffffffffff"],["10001",2,2000005,"fffffffffffffff"],["10001",3,2000005,"fffffffffffffff"],["10001",2,2000006,"fffffffffffffff"],["10001",3,2000006,"fffffffffffffff"],["10001",2,2000007,"fffffffffffffff"],["10001",3,2000007,"fffffffffffffff"],["10001",2,2000008,"fffffffffffffff"],["10001",3,2000008,"fffffffffffffff"],["10001",2,2000009,"fffffffffffffff"],["10001",3,2000009,"fffffffffffffff"]]}', 1800009000, 1800009300, 'open', NULL);
INSERT INTO public.command VALUES ('c1', 'r001', '{"cmd":"get","at":"x"}', 1, 9, 'open', NULL);
INSERT INTO public.compacted_2027_01 VALUES (NULL, 1000000000000, 1000000000059, 1000000000000, 1000000000059, 2000001, 1, 30000000, 2, 1, 1, 60, 0, 0, '\x040600e8d4a51000010100bdf05c25');
INSERT INTO public.compacted_2027_01 VALUES (6352, 100, 110, 100, 112, 2000000, 1, 30000000, 3, 1, 1, 60, 0, 0, '\x000164040718293a4b5c60718293a4b5c60718293a4b5c60718293a4b5c60718293aa523f9bc');
INSERT INTO public.compacted_2027_01 VALUES (50, 5, 5, 5, 5, 2000003, 1, 30000000, 3, 1, 1, 0, 10, 0, '\x0300000000000003ff00000000000003ff0105001b68a9b0');
INSERT INTO public.compacted_2027_01 VALUES (6246, 100, 110, -3, 112, 2000001, 1, 30000000, 3, 0, 1, 60, 0, 2, '\x0801fd07cfbb46fd3c0071d7cb673db9f768dfa786ae3af96ce7b73eed1bf4f0d5c75f2d9cf6e7dda37e9e1ab8ebe5b39edcfbb46fd3c357100205000000000000e6a9060000000000000067fb01d16b');
INSERT INTO public.compacted_2027_03 VALUES (3, 1, 2, 1, 2, 2005000, 3, 30000000, 3, 1, 1, 2, 0, 0, '\x0100000000000000180101014065e9255e');
INSERT INTO public.controller VALUES ('r001', 1, 'residential', '10.0.39.16');
INSERT INTO public.controller VALUES ('r002', 2, 'residential', '10.0.78.32');
INSERT INTO public.declared_minimum VALUES (1, 25, 7);
INSERT INTO public.event VALUES (1, 1, -1, 0, 1, 1800000000, 'r001', 'r001', 2628379905);
INSERT INTO public.gap VALUES (1, 2, 2000002, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 3, 2000002, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 2, 2000003, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 3, 2000003, 1152921504606845952, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 2, 2000004, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 3, 2000004, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 2, 2000005, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 3, 2000005, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 2, 2000006, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 3, 2000006, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 2, 2000007, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 3, 2000007, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 2, 2000008, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 3, 2000008, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 2, 2000009, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gap VALUES (1, 3, 2000009, 1152921504606846975, 0, 1, 1800009300, true, 0);
INSERT INTO public.gateway_seen VALUES ('r001', 5, '{}');
INSERT INTO public.letter VALUES (1, -1, 1, 1, 9, 4, 891568578, 5, 'r001', '\x616263', '', NULL, NULL, NULL);
INSERT INTO public.meter VALUES (1, 10001, '10001', 'r001', '10.0.39.17', 'house 1', 'house', 'outgoing', 1, '1,2,3', 200, 28800000, 50, false, 3239375079);
INSERT INTO public.meter VALUES (2, 10002, '10002', 'r001', '10.0.39.18', 'house 1', 'house', 'incoming', 1, '3', 200, NULL, NULL, false, 2865430590);
INSERT INTO public.meter VALUES (3, 10003, '10003', 'r001', '10.0.39.19', 'house 2', 'house', 'outgoing', 2, '1,2,3', 200, 28800000, 75, true, 1041458595);
INSERT INTO public.meter VALUES (4, 10004, '10004', 'r001', '10.0.39.20', 'house 2', 'house', 'incoming', 2, '3', 200, NULL, NULL, true, 518432103);
INSERT INTO public.meter VALUES (5, 10005, '10005', 'r001', '10.0.39.21', 'boundary', 'boundary', 'outgoing', 0, '3', 4000, NULL, NULL, true, 2996711485);
INSERT INTO public.meter VALUES (6, 10006, '10006', 'r001', '10.0.39.22', 'boundary', 'boundary', 'incoming', 0, '3', 4000, NULL, NULL, true, 225567700);
INSERT INTO public.meter VALUES (7, 20001, '20001', 'r002', '10.0.78.33', 'house 1', 'house', 'outgoing', 3, '1,2,3', 200, 28800000, 75, false, 124804187);
INSERT INTO public.meter VALUES (8, 20002, '20002', 'r002', '10.0.78.34', 'house 1', 'house', 'incoming', 3, '3', 200, NULL, NULL, false, 2044400317);
INSERT INTO public.meter VALUES (9, 20003, '20003', 'r002', '10.0.78.35', 'house 2', 'house', 'outgoing', 4, '1,2,3', 200, 28800000, 25, true, 3905341886);
INSERT INTO public.meter VALUES (10, 20004, '20004', 'r002', '10.0.78.36', 'house 2', 'house', 'incoming', 4, '3', 200, NULL, NULL, true, 2952209860);
INSERT INTO public.meter VALUES (11, 20005, '20005', 'r002', '10.0.78.37', 'boundary', 'boundary', 'outgoing', 0, '3', 4000, NULL, NULL, true, 3241484993);
INSERT INTO public.meter VALUES (12, 20006, '20006', 'r002', '10.0.78.38', 'boundary', 'boundary', 'incoming', 0, '3', 4000, NULL, NULL, true, 2924698227);
INSERT INTO public.part VALUES (13, 2000003, 1, 30000000, 3, 1, 1, '\x01000000000000000101010002b09ccb');
INSERT INTO public.part VALUES (14, 2000007, 1, 30000000, 3, 1, 1, '\x010000000000000002010200fb910a70');
INSERT INTO public.part VALUES (15, 2000007, 1, 30000001, 3, 1, 1, '\x010000000000000004010300c7e164ed');
INSERT INTO public.series VALUES (3, 3, 2005000, NULL, NULL);
INSERT INTO public.series VALUES (1, 3, 2000000, 2000000, 2000000);
INSERT INTO public.series VALUES (1, 2, 2000001, 2000001, 2000001);
INSERT INTO public.setting VALUES ('town', '{"name": "Centertown", "timezone": "America/New_York", "controllers": 2, "meters": 8, "boundary_meters": 4, "batteries": 4, "accounts": 4, "average_w": 4800, "battery_capacity_mwh": 57600000, "peak_start_hour": 15, "peak_end_hour": 21, "peak_factor": 1.5}');
INSERT INTO public.setting VALUES ('registry_revision', '1');
INSERT INTO public.setting VALUES ('store_id', '4711');
INSERT INTO public.setting VALUES ('gap_number', '2');
INSERT INTO public.setting VALUES ('gap_watermark', '12');
INSERT INTO public.setting VALUES ('place', '7711383050675801475/16442');
INSERT INTO public.tally VALUES ('r001', 11, 10, 197, 1, 1, 0, 0, 1800000000);
SELECT pg_catalog.setval('public.letter_no_seq', 1, true);
SELECT pg_catalog.setval('public.meter_no_seq', 12, true);
SELECT pg_catalog.setval('public.part_id_seq', 16, false);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.compacted
    ADD CONSTRAINT pk_compacted PRIMARY KEY (quarter, meter_no, record_type);
ALTER TABLE ONLY public.compacted_2027_01
    ADD CONSTRAINT compacted_2027_01_pkey PRIMARY KEY (quarter, meter_no, record_type) WITH (fillfactor='100');
ALTER TABLE ONLY public.compacted_2027_03
    ADD CONSTRAINT compacted_2027_03_pkey PRIMARY KEY (quarter, meter_no, record_type) WITH (fillfactor='100');
ALTER TABLE ONLY public.command
    ADD CONSTRAINT pk_command PRIMARY KEY (id);
ALTER TABLE ONLY public.conflict_sender
    ADD CONSTRAINT pk_conflict_sender PRIMARY KEY (quarter, meter_no, record_type, slot, value, sender_no);
ALTER TABLE ONLY public.controller
    ADD CONSTRAINT pk_controller PRIMARY KEY (id);
ALTER TABLE ONLY public.declared_minimum
    ADD CONSTRAINT pk_declared_minimum PRIMARY KEY (meter_no);
ALTER TABLE ONLY public.event
    ADD CONSTRAINT pk_event PRIMARY KEY (meter_no, generation, record_id);
ALTER TABLE ONLY public.gap
    ADD CONSTRAINT pk_gap PRIMARY KEY (meter_no, record_type, quarter);
ALTER TABLE ONLY public.gateway_seen
    ADD CONSTRAINT pk_gateway_seen PRIMARY KEY (controller);
ALTER TABLE ONLY public.held
    ADD CONSTRAINT pk_held PRIMARY KEY (meter_no, record_type, quarter, letter_no);
ALTER TABLE ONLY public.letter
    ADD CONSTRAINT pk_letter PRIMARY KEY (no);
ALTER TABLE ONLY public.meter
    ADD CONSTRAINT pk_meter PRIMARY KEY (no);
ALTER TABLE ONLY public.part
    ADD CONSTRAINT pk_part PRIMARY KEY (id);
ALTER TABLE ONLY public.period
    ADD CONSTRAINT pk_period PRIMARY KEY (job, start);
ALTER TABLE ONLY public.series
    ADD CONSTRAINT pk_series PRIMARY KEY (meter_no, record_type);
ALTER TABLE ONLY public.setting
    ADD CONSTRAINT pk_setting PRIMARY KEY (key);
ALTER TABLE ONLY public.tally
    ADD CONSTRAINT pk_tally PRIMARY KEY (controller);
ALTER TABLE ONLY public.controller
    ADD CONSTRAINT uq_controller_number UNIQUE (number);
ALTER TABLE ONLY public.letter
    ADD CONSTRAINT uq_letter UNIQUE (meter, log, generation, record_id, reason, crc);
ALTER TABLE ONLY public.meter
    ADD CONSTRAINT uq_meter_id UNIQUE (id);
ALTER TABLE ONLY public.meter
    ADD CONSTRAINT uq_meter_label UNIQUE (label);
CREATE INDEX ix_compacted_conflicts ON ONLY public.compacted USING btree (owner_no) WHERE (conflicts > 0);
CREATE INDEX compacted_2027_01_owner_no_idx ON public.compacted_2027_01 USING btree (owner_no) WHERE (conflicts > 0);
CREATE INDEX compacted_2027_03_owner_no_idx ON public.compacted_2027_03 USING btree (owner_no) WHERE (conflicts > 0);
CREATE INDEX ix_command_state ON public.command USING btree (state);
CREATE INDEX ix_event_meter_no_time ON public.event USING btree (meter_no, "time");
CREATE INDEX ix_gap_is_open_next_time ON public.gap USING btree (is_open, next_time);
CREATE INDEX ix_gap_touched ON public.gap USING btree (touched) WHERE (touched > 0);
CREATE INDEX ix_letter_state ON public.letter USING btree (state) WHERE ((state)::text <> ''::text);
CREATE INDEX ix_meter_microgrid ON public.meter USING btree (microgrid);
CREATE INDEX ix_part_key ON public.part USING btree (quarter, meter_no, record_type);
CREATE INDEX ix_period_open ON public.period USING btree (job, start) WHERE (done IS NULL);
ALTER INDEX public.ix_compacted_conflicts ATTACH PARTITION public.compacted_2027_01_owner_no_idx;
ALTER INDEX public.pk_compacted ATTACH PARTITION public.compacted_2027_01_pkey;
ALTER INDEX public.ix_compacted_conflicts ATTACH PARTITION public.compacted_2027_03_owner_no_idx;
ALTER INDEX public.pk_compacted ATTACH PARTITION public.compacted_2027_03_pkey;
ALTER TABLE ONLY public.command
    ADD CONSTRAINT fk_command_controller FOREIGN KEY (controller) REFERENCES public.controller(id);
ALTER TABLE ONLY public.declared_minimum
    ADD CONSTRAINT fk_declared_minimum_meter_no FOREIGN KEY (meter_no) REFERENCES public.meter(no);
ALTER TABLE ONLY public.event
    ADD CONSTRAINT fk_event_meter_no FOREIGN KEY (meter_no) REFERENCES public.meter(no);
ALTER TABLE ONLY public.gap
    ADD CONSTRAINT fk_gap_meter_no FOREIGN KEY (meter_no) REFERENCES public.meter(no);
ALTER TABLE ONLY public.gateway_seen
    ADD CONSTRAINT fk_gateway_seen_controller FOREIGN KEY (controller) REFERENCES public.controller(id);
ALTER TABLE ONLY public.held
    ADD CONSTRAINT fk_held_letter_no FOREIGN KEY (letter_no) REFERENCES public.letter(no);
ALTER TABLE ONLY public.held
    ADD CONSTRAINT fk_held_meter_no FOREIGN KEY (meter_no) REFERENCES public.meter(no);
ALTER TABLE ONLY public.meter
    ADD CONSTRAINT fk_meter_microgrid FOREIGN KEY (microgrid) REFERENCES public.controller(id);
ALTER TABLE ONLY public.series
    ADD CONSTRAINT fk_series_meter_no FOREIGN KEY (meter_no) REFERENCES public.meter(no);
ALTER TABLE ONLY public.tally
    ADD CONSTRAINT fk_tally_controller FOREIGN KEY (controller) REFERENCES public.controller(id);

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
CREATE TABLE public.part (
    id bigint NOT NULL,
    meter_no integer NOT NULL,
    record_type smallint NOT NULL,
    quarter integer NOT NULL,
    sender character varying(16) NOT NULL,
    owner character varying(16) NOT NULL,
    compacted boolean NOT NULL,
    exact smallint NOT NULL,
    averaged smallint NOT NULL,
    conflicts smallint NOT NULL,
    total bigint,
    first_reading bigint,
    last_reading bigint,
    min_reading bigint,
    max_reading bigint,
    payload bytea NOT NULL,
    received bigint NOT NULL
);
CREATE VIEW public.block AS
 SELECT m.label AS meter,
    m.microgrid,
    p.record_type,
    (p.quarter * 900) AS start,
    p.exact,
    p.averaged,
    ((60 - p.exact) - p.averaged) AS missing,
    p.conflicts,
    p.total,
    p.first_reading,
    p.last_reading,
    p.min_reading,
    p.max_reading
   FROM (public.part p
     JOIN public.meter m ON ((m.no = p.meter_no)))
  WHERE p.compacted;
CREATE TABLE public.command (
    id character varying(64) NOT NULL,
    controller character varying(16) NOT NULL,
    message text NOT NULL,
    created bigint NOT NULL,
    until bigint NOT NULL,
    state character varying(16) NOT NULL,
    outcome text
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
    is_open boolean NOT NULL
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
CREATE SEQUENCE public.part_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.part_id_seq OWNED BY public.part.id;
CREATE TABLE public.period (
    job character varying(32) NOT NULL,
    last_done bigint NOT NULL
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
ALTER TABLE ONLY public.letter ALTER COLUMN no SET DEFAULT nextval('public.letter_no_seq'::regclass);
ALTER TABLE ONLY public.meter ALTER COLUMN no SET DEFAULT nextval('public.meter_no_seq'::regclass);
ALTER TABLE ONLY public.part ALTER COLUMN id SET DEFAULT nextval('public.part_id_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('0001');
INSERT INTO public.command VALUES ('gap-289f935e528efde7-1', 'r001', '{"v":1,"id":"gap-289f935e528efde7-1","cmd":"get","until":1800009300,"at":"gateway","mode":"lossless","blocks":[["10001",2,2000002,"fffffffffffffff"],["10001",3,2000002,"fffffffffffffff"],["10001",2,2000003,"fffffffffffffff"],["10001",3,2000003,"ffffffffffffc00"],["10001",2,2000004,"fffffffffffffff"],["10001",3,2000004,"fffffffffffffff"],["10001",2,2000005,"fffffffffffffff"],["10001",3,2000005,"fffffffffffffff"],["10001",2,2000006,"fffffffffffffff"],["10001",3,2000006,"fffffffffffffff"],["10001",2,2000007,"fffffffffffffff"],["10001",3,2000007,"fffffffffffffff"],["10001",2,2000008,"fffffffffffffff"],["10001",3,2000008,"fffffffffffffff"],["10001",2,2000009,"fffffffffffffff"],["10001",3,2000009,"fffffffffffffff"]]}', 1800009000, 1800009300, 'open', NULL);
INSERT INTO public.command VALUES ('c1', 'r001', '{"cmd":"get","at":"x"}', 1, 9, 'open', NULL);
INSERT INTO public.controller VALUES ('r001', 1, 'residential', '10.0.39.16');
INSERT INTO public.controller VALUES ('r002', 2, 'residential', '10.0.78.32');
INSERT INTO public.declared_minimum VALUES (1, 25, 7);
INSERT INTO public.event VALUES (1, 1, -1, 0, 1, 1800000000, 'r001', 'r001', 2628379905);
INSERT INTO public.gap VALUES (1, 2, 2000002, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 3, 2000002, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 2, 2000003, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 3, 2000003, 1152921504606845952, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 2, 2000004, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 3, 2000004, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 2, 2000005, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 3, 2000005, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 2, 2000006, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 3, 2000006, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 2, 2000007, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 3, 2000007, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 2, 2000008, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 3, 2000008, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 2, 2000009, 1152921504606846975, 0, 1, 1800009300, true);
INSERT INTO public.gap VALUES (1, 3, 2000009, 1152921504606846975, 0, 1, 1800009300, true);
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
INSERT INTO public.part VALUES (8, 1, 2, 2000001, 'r001', 'r001', true, 60, 0, 0, NULL, 1000000000000, 1000000000059, 1000000000000, 1000000000059, '\x040600e8d4a51000010100bdf05c25', 1800000000);
INSERT INTO public.part VALUES (9, 1, 3, 2000000, 'r001', 'r001', true, 60, 0, 0, 6352, 100, 110, 100, 112, '\x000164040718293a4b5c60718293a4b5c60718293a4b5c60718293a4b5c60718293aa523f9bc', 1800000000);
INSERT INTO public.part VALUES (10, 1, 3, 2000001, 'r002', 'r001', true, 60, 0, 2, 6246, 100, 110, -3, 112, '\x0801fd07cfbb46fd3c0071d7cb673db9f768dfa786ae3af96ce7b73eed1bf4f0d5c75f2d9cf6e7dda37e9e1ab8ebe5b39edcfbb46fd3c357100205000000000000e6a9060000000000000067fb01d16b', 1800000000);
INSERT INTO public.part VALUES (11, 1, 3, 2000003, 'r001', 'r001', true, 0, 10, 0, 50, 5, 5, 5, 5, '\x0300000000000003ff00000000000003ff0105001b68a9b0', 1800000000);
INSERT INTO public.part VALUES (12, 3, 3, 2005000, 'r001', 'r001', true, 2, 0, 0, 3, 1, 2, 1, 2, '\x0100000000000000180101014065e9255e', 1800000000);
INSERT INTO public.part VALUES (13, 1, 3, 2000003, 'r001', 'r001', false, 1, 0, 0, 1, 1, 1, 1, 1, '\x01000000000000000101010002b09ccb', 1800000000);
INSERT INTO public.part VALUES (14, 1, 3, 2000007, 'r001', 'r001', false, 1, 0, 0, 2, 2, 2, 2, 2, '\x010000000000000002010200fb910a70', 1800000000);
INSERT INTO public.part VALUES (15, 1, 3, 2000007, 'r001', 'r001', false, 1, 0, 0, 3, 3, 3, 3, 3, '\x010000000000000004010300c7e164ed', 1800000100);
INSERT INTO public.period VALUES ('compact', 4);
INSERT INTO public.series VALUES (3, 3, 2005000, NULL, NULL);
INSERT INTO public.series VALUES (1, 3, 2000000, 2000000, 2000000);
INSERT INTO public.series VALUES (1, 2, 2000001, 2000001, 2000001);
INSERT INTO public.setting VALUES ('town', '{"name": "Centertown", "timezone": "America/New_York", "controllers": 2, "meters": 8, "boundary_meters": 4, "batteries": 4, "accounts": 4, "average_w": 4800, "battery_capacity_mwh": 57600000, "peak_start_hour": 15, "peak_end_hour": 21, "peak_factor": 1.5}');
INSERT INTO public.setting VALUES ('registry_revision', '1');
INSERT INTO public.setting VALUES ('store_id', '4711');
INSERT INTO public.setting VALUES ('gap_number', '2');
INSERT INTO public.setting VALUES ('gap_watermark', '12');
INSERT INTO public.tally VALUES ('r001', 11, 10, 197, 1, 1, 0, 0, 1800000000);
SELECT pg_catalog.setval('public.letter_no_seq', 1, true);
SELECT pg_catalog.setval('public.meter_no_seq', 12, true);
SELECT pg_catalog.setval('public.part_id_seq', 15, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.command
    ADD CONSTRAINT pk_command PRIMARY KEY (id);
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
    ADD CONSTRAINT pk_period PRIMARY KEY (job);
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
CREATE INDEX ix_command_state ON public.command USING btree (state);
CREATE INDEX ix_event_meter_no_time ON public.event USING btree (meter_no, "time");
CREATE INDEX ix_gap_is_open_next_time ON public.gap USING btree (is_open, next_time);
CREATE INDEX ix_letter_state ON public.letter USING btree (state) WHERE ((state)::text <> ''::text);
CREATE INDEX ix_meter_microgrid ON public.meter USING btree (microgrid);
CREATE INDEX ix_part_conflicts ON public.part USING btree (owner) WHERE (conflicts > 0);
CREATE INDEX ix_part_fresh ON public.part USING btree (quarter, meter_no, record_type) WHERE (NOT compacted);
CREATE INDEX ix_part_key ON public.part USING btree (meter_no, record_type, quarter);
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
ALTER TABLE ONLY public.part
    ADD CONSTRAINT fk_part_meter_no FOREIGN KEY (meter_no) REFERENCES public.meter(no);
ALTER TABLE ONLY public.series
    ADD CONSTRAINT fk_series_meter_no FOREIGN KEY (meter_no) REFERENCES public.meter(no);
ALTER TABLE ONLY public.tally
    ADD CONSTRAINT fk_tally_controller FOREIGN KEY (controller) REFERENCES public.controller(id);

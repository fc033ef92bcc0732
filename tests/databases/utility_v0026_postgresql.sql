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
CREATE FUNCTION public.audit_only_grows() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'the audit log only grows'; END $$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.account (
    number integer NOT NULL,
    made bigint NOT NULL
);
CREATE TABLE public.account_difference (
    meter bigint NOT NULL,
    told integer NOT NULL,
    registered integer NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    reports bigint NOT NULL
);
CREATE TABLE public.account_term (
    account integer NOT NULL,
    what character varying(8) NOT NULL,
    since integer NOT NULL,
    value character varying(64) NOT NULL,
    crc bigint NOT NULL
);
CREATE TABLE public.alarm (
    key character varying(255) NOT NULL,
    since bigint NOT NULL,
    stage character varying(8) NOT NULL,
    ended bigint,
    labels text NOT NULL,
    summary character varying(400) NOT NULL,
    description character varying(400) NOT NULL
);
CREATE TABLE public.alarm_acknowledgement (
    no bigint NOT NULL,
    key text NOT NULL,
    person character varying(64) NOT NULL,
    note character varying(200) NOT NULL,
    made bigint NOT NULL,
    until bigint NOT NULL
);
CREATE SEQUENCE public.alarm_acknowledgement_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.alarm_acknowledgement_no_seq OWNED BY public.alarm_acknowledgement.no;
CREATE TABLE public.alarm_silence (
    no bigint NOT NULL,
    subject character varying(400) NOT NULL,
    ways text NOT NULL,
    person character varying(64) NOT NULL,
    note character varying(200) NOT NULL,
    made bigint NOT NULL,
    start bigint NOT NULL,
    until bigint NOT NULL,
    foreign_ids text NOT NULL
);
CREATE SEQUENCE public.alarm_silence_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.alarm_silence_no_seq OWNED BY public.alarm_silence.no;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.api_token (
    no bigint NOT NULL,
    digest character varying(64) NOT NULL,
    person character varying(32) NOT NULL,
    label character varying(64) NOT NULL,
    roles character varying(128) NOT NULL,
    made bigint NOT NULL,
    until bigint NOT NULL,
    used bigint,
    revoked bigint
);
CREATE SEQUENCE public.api_token_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.api_token_no_seq OWNED BY public.api_token.no;
CREATE TABLE public.audit (
    no bigint NOT NULL,
    "time" bigint NOT NULL,
    person character varying(32) NOT NULL,
    via character varying(8) NOT NULL,
    address character varying(64) NOT NULL,
    action character varying(48) NOT NULL,
    subject character varying(128) NOT NULL,
    before text,
    after text,
    token bigint
);
CREATE SEQUENCE public.audit_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.audit_no_seq OWNED BY public.audit.no;
CREATE TABLE public.bill (
    run_no bigint NOT NULL,
    account integer NOT NULL,
    cents bigint NOT NULL,
    base character varying(16),
    content text NOT NULL
);
CREATE TABLE public.bill_run (
    no bigint NOT NULL,
    month character varying(7) NOT NULL,
    by_job character varying(7),
    state character varying(16) NOT NULL,
    policy character varying(16) NOT NULL,
    code character varying(32) NOT NULL,
    settled_no bigint NOT NULL,
    previous_no bigint NOT NULL,
    inputs_digest character varying(64) NOT NULL,
    digest character varying(64) NOT NULL,
    root character varying(64),
    figures text NOT NULL,
    inputs bytea NOT NULL,
    made_by character varying(32) NOT NULL,
    made bigint NOT NULL,
    checked_by character varying(32),
    checked bigint,
    issued_by character varying(32),
    issued bigint,
    secret bytea,
    leaves bytea,
    head text
);
CREATE SEQUENCE public.bill_run_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.bill_run_no_seq OWNED BY public.bill_run.no;
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
CREATE TABLE public.checked_day (
    day integer NOT NULL,
    meter_no integer NOT NULL,
    record_type smallint NOT NULL,
    energy bigint NOT NULL
);
CREATE TABLE public.command (
    id character varying(64) NOT NULL,
    controller character varying(16) NOT NULL,
    message text NOT NULL,
    created bigint NOT NULL,
    until bigint NOT NULL,
    state character varying(16) NOT NULL,
    outcome text,
    result character varying(16),
    limits_import boolean DEFAULT false NOT NULL
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
CREATE TABLE public.complete_day (
    day integer NOT NULL,
    owner_no smallint NOT NULL,
    exact bigint DEFAULT '0'::bigint NOT NULL,
    averaged bigint DEFAULT '0'::bigint NOT NULL,
    quarantined bigint DEFAULT '0'::bigint NOT NULL,
    refused bigint DEFAULT '0'::bigint NOT NULL,
    off bigint DEFAULT '0'::bigint NOT NULL,
    absent bigint DEFAULT '0'::bigint NOT NULL,
    missing bigint DEFAULT '0'::bigint NOT NULL,
    computed bigint DEFAULT '0'::bigint NOT NULL,
    marks integer NOT NULL
);
CREATE TABLE public.conflict_sender (
    quarter integer NOT NULL,
    meter_no integer NOT NULL,
    record_type smallint NOT NULL,
    slot smallint NOT NULL,
    value bigint NOT NULL,
    sender_no smallint NOT NULL
);
CREATE TABLE public.control_change (
    no bigint NOT NULL,
    made bigint NOT NULL,
    person character varying(64) NOT NULL,
    action character varying(16) NOT NULL,
    fields text NOT NULL,
    due bigint NOT NULL,
    valid_s integer NOT NULL,
    state character varying(16) NOT NULL,
    undoes bigint,
    ended bigint,
    ended_by character varying(64)
);
CREATE SEQUENCE public.control_change_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.control_change_no_seq OWNED BY public.control_change.no;
CREATE TABLE public.control_target (
    change_no bigint NOT NULL,
    controller character varying(16) NOT NULL,
    fields text NOT NULL,
    before text,
    command character varying(64)
);
CREATE TABLE public.control_version (
    controller character varying(16) NOT NULL,
    setting character varying(32) NOT NULL,
    change_no bigint NOT NULL
);
CREATE TABLE public.controller (
    id character varying(16) NOT NULL,
    number integer NOT NULL,
    kind character varying(16) NOT NULL,
    address character varying(45) NOT NULL
);
CREATE TABLE public.correction (
    no bigint NOT NULL,
    quarter integer NOT NULL,
    meter_no integer NOT NULL,
    record_type smallint NOT NULL,
    version smallint NOT NULL,
    owner_no smallint NOT NULL,
    method smallint NOT NULL,
    mask bigint NOT NULL,
    energy bigint NOT NULL,
    state character varying(8) NOT NULL,
    payload bytea NOT NULL
);
CREATE SEQUENCE public.correction_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.correction_no_seq OWNED BY public.correction.no;
CREATE TABLE public.correction_step (
    no bigint NOT NULL,
    correction_no bigint NOT NULL,
    "time" bigint NOT NULL,
    person character varying(64) NOT NULL,
    state_before character varying(8) NOT NULL,
    state_after character varying(8) NOT NULL,
    why character varying(200) NOT NULL
);
CREATE SEQUENCE public.correction_step_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.correction_step_no_seq OWNED BY public.correction_step.no;
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
CREATE TABLE public.finding (
    no bigint NOT NULL,
    meter_no integer NOT NULL,
    record_type smallint NOT NULL,
    check_name character varying(16) NOT NULL,
    first_quarter integer NOT NULL,
    until_quarter integer NOT NULL,
    figure bigint NOT NULL,
    threshold bigint NOT NULL,
    found bigint NOT NULL,
    closed bigint,
    closed_by character varying(64),
    why character varying(200)
);
CREATE SEQUENCE public.finding_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.finding_no_seq OWNED BY public.finding.no;
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
    heartbeat text NOT NULL,
    tuned boolean DEFAULT false NOT NULL
);
CREATE TABLE public.held (
    meter_no integer NOT NULL,
    record_type smallint NOT NULL,
    quarter integer NOT NULL,
    letter_no bigint NOT NULL,
    mask bigint NOT NULL
);
CREATE TABLE public.holding (
    meter bigint NOT NULL,
    since integer NOT NULL,
    until integer,
    account integer NOT NULL,
    crc bigint NOT NULL
);
CREATE TABLE public.installed (
    meter bigint NOT NULL,
    place character varying(200) NOT NULL,
    building character varying(200),
    since integer,
    until integer,
    first_register bigint,
    last_register bigint,
    crc bigint NOT NULL
);
CREATE TABLE public.invitation (
    digest character varying(64) NOT NULL,
    person character varying(32) NOT NULL,
    made bigint NOT NULL,
    made_by character varying(32) NOT NULL,
    until bigint NOT NULL,
    used bigint
);
CREATE TABLE public.job (
    name character varying(32) NOT NULL,
    paused bigint,
    every_s integer,
    minute smallint,
    period character varying(32),
    done bigint,
    took_ms bigint,
    failed bigint,
    error character varying(500)
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
    done bigint,
    took_ms bigint,
    error character varying(500),
    waits_for character varying(500)
);
CREATE TABLE public.person (
    name character varying(32) NOT NULL,
    display character varying(64) NOT NULL,
    password character varying(160),
    state character varying(8) NOT NULL,
    account integer,
    created bigint NOT NULL,
    created_by character varying(32) NOT NULL,
    link_by character varying(32),
    link_at bigint,
    roles_by character varying(32),
    roles_at bigint,
    factor_by character varying(32),
    factor_at bigint
);
CREATE TABLE public.person_role (
    person character varying(32) NOT NULL,
    role character varying(16) NOT NULL
);
CREATE TABLE public.plant_quarter (
    quarter integer NOT NULL,
    slots smallint NOT NULL,
    ordered bigint NOT NULL,
    needed bigint NOT NULL,
    sold bigint NOT NULL,
    net bigint NOT NULL,
    level bigint NOT NULL
);
CREATE TABLE public.plant_seen (
    one smallint NOT NULL,
    "time" bigint NOT NULL,
    report text NOT NULL
);
CREATE TABLE public.purchase (
    quarter integer NOT NULL,
    id character varying(64) NOT NULL,
    energy bigint NOT NULL,
    price integer NOT NULL,
    policy character varying(16) NOT NULL,
    reason text NOT NULL,
    inputs text NOT NULL,
    message text NOT NULL,
    created bigint NOT NULL,
    until bigint NOT NULL,
    state character varying(16) NOT NULL,
    outcome text
);
CREATE TABLE public.rates_told (
    controller character varying(16) NOT NULL,
    tariff character varying(32) NOT NULL,
    version smallint NOT NULL,
    month character varying(7) NOT NULL,
    command character varying(64) NOT NULL
);
CREATE TABLE public.rates_version (
    name character varying(32) NOT NULL,
    version smallint NOT NULL,
    state character varying(16) NOT NULL,
    effective integer NOT NULL,
    content text NOT NULL,
    source text NOT NULL,
    proposed_by character varying(32) NOT NULL,
    proposed bigint NOT NULL,
    approved_by character varying(32),
    approved bigint
);
CREATE TABLE public.ration (
    controller character varying(16) NOT NULL,
    quarter integer NOT NULL,
    supply character varying(16) NOT NULL,
    import_limit_w bigint,
    reason text NOT NULL,
    until bigint NOT NULL,
    command character varying(64) NOT NULL
);
CREATE TABLE public.recovery_code (
    digest character varying(64) NOT NULL,
    person character varying(32) NOT NULL
);
CREATE TABLE public.registry_change (
    no bigint NOT NULL,
    "time" bigint NOT NULL,
    person character varying(64) NOT NULL,
    subject character varying(40) NOT NULL,
    before text NOT NULL,
    after text NOT NULL
);
CREATE SEQUENCE public.registry_change_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.registry_change_no_seq OWNED BY public.registry_change.no;
CREATE TABLE public.relayed_day (
    controller character varying(16) NOT NULL,
    day integer NOT NULL,
    seconds bigint NOT NULL,
    batches bigint NOT NULL,
    blocks bigint NOT NULL,
    slots bigint NOT NULL,
    size bigint NOT NULL
);
CREATE TABLE public.research_agreement (
    name character varying(64) NOT NULL,
    until bigint NOT NULL,
    added bigint NOT NULL,
    added_by character varying(32) NOT NULL
);
CREATE TABLE public.research_log (
    no bigint NOT NULL,
    "time" bigint NOT NULL,
    person character varying(32) NOT NULL,
    action character varying(16) NOT NULL,
    subject character varying(64) NOT NULL,
    detail text NOT NULL
);
CREATE SEQUENCE public.research_log_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.research_log_no_seq OWNED BY public.research_log.no;
CREATE TABLE public.research_reader (
    agreement character varying(64) NOT NULL,
    person character varying(32) NOT NULL,
    added bigint NOT NULL,
    added_by character varying(32) NOT NULL
);
CREATE TABLE public.research_release (
    id character varying(16) NOT NULL,
    tier character varying(16) NOT NULL,
    since integer NOT NULL,
    until integer NOT NULL,
    options text NOT NULL,
    attacks text NOT NULL,
    groups text NOT NULL,
    state character varying(16) NOT NULL,
    asked bigint NOT NULL,
    asked_by character varying(32) NOT NULL,
    decided bigint,
    decided_by character varying(32),
    why character varying(200)
);
CREATE TABLE public.second_factor (
    person character varying(32) NOT NULL,
    secret character varying(32),
    since bigint,
    last_step bigint NOT NULL,
    guesses_until bigint NOT NULL,
    offered character varying(64),
    offered_until bigint
);
CREATE TABLE public.series (
    meter_no integer NOT NULL,
    record_type smallint NOT NULL,
    first_quarter integer NOT NULL,
    scanned_from integer,
    scanned_until integer
);
CREATE TABLE public.session (
    digest character varying(64) NOT NULL,
    person character varying(32) NOT NULL,
    csrf character varying(64) NOT NULL,
    opened bigint NOT NULL,
    used bigint NOT NULL,
    until bigint NOT NULL,
    address character varying(64) NOT NULL,
    agent character varying(128) NOT NULL
);
CREATE TABLE public.setting (
    key character varying(32) NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.settled (
    no bigint NOT NULL,
    day integer NOT NULL,
    meter_no integer NOT NULL,
    computed_minute integer NOT NULL,
    version smallint NOT NULL,
    why smallint NOT NULL,
    payload bytea NOT NULL
);
CREATE TABLE public.settled_day (
    day integer NOT NULL,
    owner_no smallint NOT NULL,
    convention character varying(16) NOT NULL,
    computed bigint NOT NULL,
    missing integer NOT NULL,
    final boolean NOT NULL,
    residual text NOT NULL
);
CREATE SEQUENCE public.settled_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.settled_no_seq OWNED BY public.settled.no;
CREATE TABLE public.settlement_due (
    day integer NOT NULL,
    owner_no smallint NOT NULL,
    marks integer NOT NULL,
    why smallint NOT NULL
);
CREATE TABLE public.sharing (
    quarter integer NOT NULL,
    owner_no smallint NOT NULL,
    version smallint NOT NULL,
    meter_no integer NOT NULL,
    given bigint NOT NULL,
    received bigint NOT NULL
);
CREATE TABLE public.sharing_due (
    quarter integer NOT NULL,
    owner_no smallint NOT NULL,
    marks integer NOT NULL
);
CREATE TABLE public.sharing_quarter (
    quarter integer NOT NULL,
    owner_no smallint NOT NULL,
    version smallint NOT NULL,
    computed bigint NOT NULL,
    complete boolean NOT NULL,
    shared bigint NOT NULL
);
CREATE TABLE public.started_login (
    digest character varying(64) NOT NULL,
    person character varying(32) NOT NULL,
    until bigint NOT NULL,
    wrong integer NOT NULL
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
CREATE TABLE public.usage_batteries (
    month integer NOT NULL,
    owner_no smallint NOT NULL,
    payload bytea NOT NULL
);
CREATE TABLE public.usage_day (
    day integer NOT NULL,
    class_no smallint NOT NULL,
    payload bytea NOT NULL
);
CREATE TABLE public.usage_due (
    day integer NOT NULL,
    owner_no smallint NOT NULL,
    marks integer NOT NULL
);
CREATE TABLE public.usage_month (
    imported bigint NOT NULL,
    shared_in bigint NOT NULL,
    exported bigint NOT NULL,
    shared_out bigint NOT NULL,
    generated bigint,
    used bigint,
    peak bigint NOT NULL,
    slots bigint NOT NULL,
    wanted bigint NOT NULL,
    quarters bigint NOT NULL,
    settled bigint NOT NULL,
    missing bigint NOT NULL,
    estimated bigint NOT NULL,
    reduced_s bigint NOT NULL,
    islanded_s bigint NOT NULL,
    computed bigint NOT NULL,
    peak_at integer NOT NULL,
    month integer NOT NULL,
    scope smallint NOT NULL,
    subject integer NOT NULL,
    owner_no smallint NOT NULL,
    payload bytea NOT NULL
);
CREATE TABLE public.usage_projection (
    low bigint,
    middle bigint NOT NULL,
    high bigint,
    made bigint NOT NULL,
    month integer NOT NULL,
    scope smallint NOT NULL,
    subject integer NOT NULL,
    quantity smallint NOT NULL
);
CREATE TABLE public.weights_told (
    controller character varying(16) NOT NULL,
    since integer NOT NULL,
    weights text NOT NULL,
    command character varying(64) NOT NULL
);
ALTER TABLE ONLY public.compacted ATTACH PARTITION public.compacted_2027_01 FOR VALUES FROM (1998624) TO (2001600);
ALTER TABLE ONLY public.compacted ATTACH PARTITION public.compacted_2027_03 FOR VALUES FROM (2004288) TO (2007264);
ALTER TABLE ONLY public.alarm_acknowledgement ALTER COLUMN no SET DEFAULT nextval('public.alarm_acknowledgement_no_seq'::regclass);
ALTER TABLE ONLY public.alarm_silence ALTER COLUMN no SET DEFAULT nextval('public.alarm_silence_no_seq'::regclass);
ALTER TABLE ONLY public.api_token ALTER COLUMN no SET DEFAULT nextval('public.api_token_no_seq'::regclass);
ALTER TABLE ONLY public.audit ALTER COLUMN no SET DEFAULT nextval('public.audit_no_seq'::regclass);
ALTER TABLE ONLY public.bill_run ALTER COLUMN no SET DEFAULT nextval('public.bill_run_no_seq'::regclass);
ALTER TABLE ONLY public.control_change ALTER COLUMN no SET DEFAULT nextval('public.control_change_no_seq'::regclass);
ALTER TABLE ONLY public.correction ALTER COLUMN no SET DEFAULT nextval('public.correction_no_seq'::regclass);
ALTER TABLE ONLY public.correction_step ALTER COLUMN no SET DEFAULT nextval('public.correction_step_no_seq'::regclass);
ALTER TABLE ONLY public.finding ALTER COLUMN no SET DEFAULT nextval('public.finding_no_seq'::regclass);
ALTER TABLE ONLY public.letter ALTER COLUMN no SET DEFAULT nextval('public.letter_no_seq'::regclass);
ALTER TABLE ONLY public.meter ALTER COLUMN no SET DEFAULT nextval('public.meter_no_seq'::regclass);
ALTER TABLE ONLY public.part ALTER COLUMN id SET DEFAULT nextval('public.part_id_seq'::regclass);
ALTER TABLE ONLY public.registry_change ALTER COLUMN no SET DEFAULT nextval('public.registry_change_no_seq'::regclass);
ALTER TABLE ONLY public.research_log ALTER COLUMN no SET DEFAULT nextval('public.research_log_no_seq'::regclass);
ALTER TABLE ONLY public.settled ALTER COLUMN no SET DEFAULT nextval('public.settled_no_seq'::regclass);
INSERT INTO public.account VALUES (1, 0);
INSERT INTO public.account VALUES (2, 0);
INSERT INTO public.account VALUES (3, 0);
INSERT INTO public.account VALUES (4, 0);
INSERT INTO public.alembic_version VALUES ('0026');
INSERT INTO public.command VALUES ('gap-289f935e528efde7-1', 'r001', '{"v":1,"id":"gap-289f935e528efde7-1","cmd":"get","until":1800009300,"at":"gateway","mode":"lossless","blocks":[["10001",2,2000002,"fffffffffffffff"],["10001",3,2000002,"fffffffffffffff"],["10001",2,2000003,"fffffffffffffff"],["10001",3,2000003,"ffffffffffffc00"],["10001",2,2000004,"fffffffffffffff"],["10001",3,2000004,"fffffffffffffff"],["10001",2,2000005,"fffffffffffffff"],["10001",3,2000005,"fffffffffffffff"],["10001",2,2000006,"fffffffffffffff"],["10001",3,2000006,"fffffffffffffff"],["10001",2,2000007,"fffffffffffffff"],["10001",3,2000007,"fffffffffffffff"],["10001",2,2000008,"fffffffffffffff"],["10001",3,2000008,"fffffffffffffff"],["10001",2,2000009,"fffffffffffffff"],["10001",3,2000009,"fffffffffffffff"]]}', 1800009000, 1800009300, 'open', NULL, NULL, false);
INSERT INTO public.command VALUES ('c1', 'r001', '{"cmd":"get","at":"x"}', 1, 9, 'open', NULL, NULL, false);
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
INSERT INTO public.gateway_seen VALUES ('r001', 5, '{}', true);
INSERT INTO public.holding VALUES (10001, 0, NULL, 1, 1836202129);
INSERT INTO public.holding VALUES (10002, 0, NULL, 1, 286465354);
INSERT INTO public.holding VALUES (10003, 0, NULL, 2, 2805051391);
INSERT INTO public.holding VALUES (10004, 0, NULL, 2, 3271296319);
INSERT INTO public.holding VALUES (20001, 0, NULL, 3, 3049424753);
INSERT INTO public.holding VALUES (20002, 0, NULL, 3, 3382944426);
INSERT INTO public.holding VALUES (20003, 0, NULL, 4, 468571419);
INSERT INTO public.holding VALUES (20004, 0, NULL, 4, 2116059099);
INSERT INTO public.installed VALUES (10001, 'house 1', NULL, NULL, NULL, NULL, NULL, 3806144431);
INSERT INTO public.installed VALUES (10002, 'house 1', NULL, NULL, NULL, NULL, NULL, 736705698);
INSERT INTO public.installed VALUES (10003, 'house 2', NULL, NULL, NULL, NULL, NULL, 938310476);
INSERT INTO public.installed VALUES (10004, 'house 2', NULL, NULL, NULL, NULL, NULL, 971488748);
INSERT INTO public.installed VALUES (10005, 'boundary', NULL, NULL, NULL, NULL, NULL, 961440705);
INSERT INTO public.installed VALUES (10006, 'boundary', NULL, NULL, NULL, NULL, NULL, 1194730343);
INSERT INTO public.installed VALUES (20001, 'house 1', NULL, NULL, NULL, NULL, NULL, 1498823168);
INSERT INTO public.installed VALUES (20002, 'house 1', NULL, NULL, NULL, NULL, NULL, 2422350093);
INSERT INTO public.installed VALUES (20003, 'house 2', NULL, NULL, NULL, NULL, NULL, 2355521251);
INSERT INTO public.installed VALUES (20004, 'house 2', NULL, NULL, NULL, NULL, NULL, 2188156995);
INSERT INTO public.installed VALUES (20005, 'boundary', NULL, NULL, NULL, NULL, NULL, 2140954277);
INSERT INTO public.installed VALUES (20006, 'boundary', NULL, NULL, NULL, NULL, NULL, 31725059);
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
INSERT INTO public.setting VALUES ('gap_number', '2');
INSERT INTO public.setting VALUES ('gap_watermark', '12');
INSERT INTO public.setting VALUES ('release', '0.3');
INSERT INTO public.setting VALUES ('place', '7712712255598584525/16458');
INSERT INTO public.setting VALUES ('store_id', '6315515726784174037');
INSERT INTO public.tally VALUES ('r001', 11, 10, 197, 1, 1, 0, 0, 1800000000);
SELECT pg_catalog.setval('public.alarm_acknowledgement_no_seq', 1, false);
SELECT pg_catalog.setval('public.alarm_silence_no_seq', 1, false);
SELECT pg_catalog.setval('public.api_token_no_seq', 1, false);
SELECT pg_catalog.setval('public.audit_no_seq', 1, false);
SELECT pg_catalog.setval('public.bill_run_no_seq', 1, false);
SELECT pg_catalog.setval('public.control_change_no_seq', 1, false);
SELECT pg_catalog.setval('public.correction_no_seq', 1, false);
SELECT pg_catalog.setval('public.correction_step_no_seq', 1, false);
SELECT pg_catalog.setval('public.finding_no_seq', 1, false);
SELECT pg_catalog.setval('public.letter_no_seq', 1, true);
SELECT pg_catalog.setval('public.meter_no_seq', 12, true);
SELECT pg_catalog.setval('public.part_id_seq', 16, false);
SELECT pg_catalog.setval('public.registry_change_no_seq', 1, false);
SELECT pg_catalog.setval('public.research_log_no_seq', 1, false);
SELECT pg_catalog.setval('public.settled_no_seq', 1, false);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.compacted
    ADD CONSTRAINT pk_compacted PRIMARY KEY (quarter, meter_no, record_type);
ALTER TABLE ONLY public.compacted_2027_01
    ADD CONSTRAINT compacted_2027_01_pkey PRIMARY KEY (quarter, meter_no, record_type) WITH (fillfactor='100');
ALTER TABLE ONLY public.compacted_2027_03
    ADD CONSTRAINT compacted_2027_03_pkey PRIMARY KEY (quarter, meter_no, record_type) WITH (fillfactor='100');
ALTER TABLE ONLY public.account
    ADD CONSTRAINT pk_account PRIMARY KEY (number);
ALTER TABLE ONLY public.account_difference
    ADD CONSTRAINT pk_account_difference PRIMARY KEY (meter, told);
ALTER TABLE ONLY public.account_term
    ADD CONSTRAINT pk_account_term PRIMARY KEY (account, what, since);
ALTER TABLE ONLY public.alarm
    ADD CONSTRAINT pk_alarm PRIMARY KEY (key, since);
ALTER TABLE ONLY public.alarm_acknowledgement
    ADD CONSTRAINT pk_alarm_acknowledgement PRIMARY KEY (no);
ALTER TABLE ONLY public.alarm_silence
    ADD CONSTRAINT pk_alarm_silence PRIMARY KEY (no);
ALTER TABLE ONLY public.api_token
    ADD CONSTRAINT pk_api_token PRIMARY KEY (no);
ALTER TABLE ONLY public.audit
    ADD CONSTRAINT pk_audit PRIMARY KEY (no);
ALTER TABLE ONLY public.bill
    ADD CONSTRAINT pk_bill PRIMARY KEY (run_no, account);
ALTER TABLE ONLY public.bill_run
    ADD CONSTRAINT pk_bill_run PRIMARY KEY (no);
ALTER TABLE ONLY public.checked_day
    ADD CONSTRAINT pk_checked_day PRIMARY KEY (day, meter_no, record_type);
ALTER TABLE ONLY public.command
    ADD CONSTRAINT pk_command PRIMARY KEY (id);
ALTER TABLE ONLY public.complete_day
    ADD CONSTRAINT pk_complete_day PRIMARY KEY (day, owner_no);
ALTER TABLE ONLY public.conflict_sender
    ADD CONSTRAINT pk_conflict_sender PRIMARY KEY (quarter, meter_no, record_type, slot, value, sender_no);
ALTER TABLE ONLY public.control_change
    ADD CONSTRAINT pk_control_change PRIMARY KEY (no);
ALTER TABLE ONLY public.control_target
    ADD CONSTRAINT pk_control_target PRIMARY KEY (change_no, controller);
ALTER TABLE ONLY public.control_version
    ADD CONSTRAINT pk_control_version PRIMARY KEY (controller, setting);
ALTER TABLE ONLY public.controller
    ADD CONSTRAINT pk_controller PRIMARY KEY (id);
ALTER TABLE ONLY public.correction
    ADD CONSTRAINT pk_correction PRIMARY KEY (no);
ALTER TABLE ONLY public.correction_step
    ADD CONSTRAINT pk_correction_step PRIMARY KEY (no);
ALTER TABLE ONLY public.declared_minimum
    ADD CONSTRAINT pk_declared_minimum PRIMARY KEY (meter_no, said);
ALTER TABLE ONLY public.event
    ADD CONSTRAINT pk_event PRIMARY KEY (meter_no, generation, record_id);
ALTER TABLE ONLY public.finding
    ADD CONSTRAINT pk_finding PRIMARY KEY (no);
ALTER TABLE ONLY public.gap
    ADD CONSTRAINT pk_gap PRIMARY KEY (meter_no, record_type, quarter);
ALTER TABLE ONLY public.gateway_seen
    ADD CONSTRAINT pk_gateway_seen PRIMARY KEY (controller);
ALTER TABLE ONLY public.held
    ADD CONSTRAINT pk_held PRIMARY KEY (meter_no, record_type, quarter, letter_no);
ALTER TABLE ONLY public.holding
    ADD CONSTRAINT pk_holding PRIMARY KEY (meter, since);
ALTER TABLE ONLY public.installed
    ADD CONSTRAINT pk_installed PRIMARY KEY (meter);
ALTER TABLE ONLY public.invitation
    ADD CONSTRAINT pk_invitation PRIMARY KEY (digest);
ALTER TABLE ONLY public.job
    ADD CONSTRAINT pk_job PRIMARY KEY (name);
ALTER TABLE ONLY public.letter
    ADD CONSTRAINT pk_letter PRIMARY KEY (no);
ALTER TABLE ONLY public.meter
    ADD CONSTRAINT pk_meter PRIMARY KEY (no);
ALTER TABLE ONLY public.part
    ADD CONSTRAINT pk_part PRIMARY KEY (id);
ALTER TABLE ONLY public.period
    ADD CONSTRAINT pk_period PRIMARY KEY (job, start);
ALTER TABLE ONLY public.person
    ADD CONSTRAINT pk_person PRIMARY KEY (name);
ALTER TABLE ONLY public.person_role
    ADD CONSTRAINT pk_person_role PRIMARY KEY (person, role);
ALTER TABLE ONLY public.plant_quarter
    ADD CONSTRAINT pk_plant_quarter PRIMARY KEY (quarter);
ALTER TABLE ONLY public.plant_seen
    ADD CONSTRAINT pk_plant_seen PRIMARY KEY (one);
ALTER TABLE ONLY public.purchase
    ADD CONSTRAINT pk_purchase PRIMARY KEY (quarter);
ALTER TABLE ONLY public.rates_told
    ADD CONSTRAINT pk_rates_told PRIMARY KEY (controller, tariff);
ALTER TABLE ONLY public.rates_version
    ADD CONSTRAINT pk_rates_version PRIMARY KEY (name, version);
ALTER TABLE ONLY public.ration
    ADD CONSTRAINT pk_ration PRIMARY KEY (controller);
ALTER TABLE ONLY public.recovery_code
    ADD CONSTRAINT pk_recovery_code PRIMARY KEY (digest);
ALTER TABLE ONLY public.registry_change
    ADD CONSTRAINT pk_registry_change PRIMARY KEY (no);
ALTER TABLE ONLY public.relayed_day
    ADD CONSTRAINT pk_relayed_day PRIMARY KEY (controller, day);
ALTER TABLE ONLY public.research_agreement
    ADD CONSTRAINT pk_research_agreement PRIMARY KEY (name);
ALTER TABLE ONLY public.research_log
    ADD CONSTRAINT pk_research_log PRIMARY KEY (no);
ALTER TABLE ONLY public.research_reader
    ADD CONSTRAINT pk_research_reader PRIMARY KEY (agreement, person);
ALTER TABLE ONLY public.research_release
    ADD CONSTRAINT pk_research_release PRIMARY KEY (id);
ALTER TABLE ONLY public.second_factor
    ADD CONSTRAINT pk_second_factor PRIMARY KEY (person);
ALTER TABLE ONLY public.series
    ADD CONSTRAINT pk_series PRIMARY KEY (meter_no, record_type);
ALTER TABLE ONLY public.session
    ADD CONSTRAINT pk_session PRIMARY KEY (digest);
ALTER TABLE ONLY public.setting
    ADD CONSTRAINT pk_setting PRIMARY KEY (key);
ALTER TABLE ONLY public.settled
    ADD CONSTRAINT pk_settled PRIMARY KEY (no);
ALTER TABLE ONLY public.settled_day
    ADD CONSTRAINT pk_settled_day PRIMARY KEY (day, owner_no);
ALTER TABLE ONLY public.settlement_due
    ADD CONSTRAINT pk_settlement_due PRIMARY KEY (day, owner_no);
ALTER TABLE ONLY public.sharing
    ADD CONSTRAINT pk_sharing PRIMARY KEY (quarter, owner_no, version, meter_no);
ALTER TABLE ONLY public.sharing_due
    ADD CONSTRAINT pk_sharing_due PRIMARY KEY (quarter, owner_no);
ALTER TABLE ONLY public.sharing_quarter
    ADD CONSTRAINT pk_sharing_quarter PRIMARY KEY (quarter, owner_no, version);
ALTER TABLE ONLY public.started_login
    ADD CONSTRAINT pk_started_login PRIMARY KEY (digest);
ALTER TABLE ONLY public.tally
    ADD CONSTRAINT pk_tally PRIMARY KEY (controller);
ALTER TABLE ONLY public.usage_batteries
    ADD CONSTRAINT pk_usage_batteries PRIMARY KEY (month, owner_no);
ALTER TABLE ONLY public.usage_day
    ADD CONSTRAINT pk_usage_day PRIMARY KEY (day, class_no);
ALTER TABLE ONLY public.usage_due
    ADD CONSTRAINT pk_usage_due PRIMARY KEY (day, owner_no);
ALTER TABLE ONLY public.usage_month
    ADD CONSTRAINT pk_usage_month PRIMARY KEY (month, scope, subject, owner_no);
ALTER TABLE ONLY public.usage_projection
    ADD CONSTRAINT pk_usage_projection PRIMARY KEY (month, scope, subject, quantity);
ALTER TABLE ONLY public.weights_told
    ADD CONSTRAINT pk_weights_told PRIMARY KEY (controller, since);
ALTER TABLE ONLY public.api_token
    ADD CONSTRAINT uq_api_token_digest UNIQUE (digest);
ALTER TABLE ONLY public.bill_run
    ADD CONSTRAINT uq_bill_run_by_job UNIQUE (by_job);
ALTER TABLE ONLY public.bill_run
    ADD CONSTRAINT uq_bill_run_month_inputs UNIQUE (month, inputs_digest);
ALTER TABLE ONLY public.controller
    ADD CONSTRAINT uq_controller_number UNIQUE (number);
ALTER TABLE ONLY public.correction
    ADD CONSTRAINT uq_correction UNIQUE (quarter, meter_no, record_type, version);
ALTER TABLE ONLY public.finding
    ADD CONSTRAINT uq_finding UNIQUE (meter_no, record_type, check_name, first_quarter);
ALTER TABLE ONLY public.letter
    ADD CONSTRAINT uq_letter UNIQUE (meter, log, generation, record_id, reason, crc);
ALTER TABLE ONLY public.meter
    ADD CONSTRAINT uq_meter_id UNIQUE (id);
ALTER TABLE ONLY public.meter
    ADD CONSTRAINT uq_meter_label UNIQUE (label);
ALTER TABLE ONLY public.purchase
    ADD CONSTRAINT uq_purchase_id UNIQUE (id);
ALTER TABLE ONLY public.settled
    ADD CONSTRAINT uq_settled UNIQUE (day, meter_no, version);
CREATE INDEX ix_compacted_conflicts ON ONLY public.compacted USING btree (owner_no) WHERE (conflicts > 0);
CREATE INDEX compacted_2027_01_owner_no_idx ON public.compacted_2027_01 USING btree (owner_no) WHERE (conflicts > 0);
CREATE INDEX compacted_2027_03_owner_no_idx ON public.compacted_2027_03 USING btree (owner_no) WHERE (conflicts > 0);
CREATE INDEX ix_alarm_acknowledgement_until ON public.alarm_acknowledgement USING btree (until);
CREATE INDEX ix_alarm_ended ON public.alarm USING btree (ended);
CREATE INDEX ix_alarm_open ON public.alarm USING btree (key) WHERE (ended IS NULL);
CREATE INDEX ix_alarm_silence_until ON public.alarm_silence USING btree (until);
CREATE INDEX ix_api_token_person ON public.api_token USING btree (person);
CREATE INDEX ix_audit_time ON public.audit USING btree ("time");
CREATE INDEX ix_audit_token ON public.audit USING btree (token);
CREATE UNIQUE INDEX ix_bill_run_issued ON public.bill_run USING btree (month) WHERE ((state)::text = 'issued'::text);
CREATE INDEX ix_command_controller_created ON public.command USING btree (controller, created);
CREATE INDEX ix_command_state ON public.command USING btree (state);
CREATE INDEX ix_complete_day_due ON public.complete_day USING btree (day) WHERE (marks > 0);
CREATE INDEX ix_control_change_state ON public.control_change USING btree (state);
CREATE INDEX ix_control_target_controller ON public.control_target USING btree (controller, change_no);
CREATE INDEX ix_correction_state_meter ON public.correction USING btree (state, meter_no, record_type, quarter);
CREATE INDEX ix_correction_state_quarter ON public.correction USING btree (state, quarter);
CREATE INDEX ix_correction_step_correction_no ON public.correction_step USING btree (correction_no);
CREATE INDEX ix_event_meter_no_time ON public.event USING btree (meter_no, "time");
CREATE INDEX ix_finding_open ON public.finding USING btree (check_name) WHERE (closed IS NULL);
CREATE INDEX ix_gap_is_open_next_time ON public.gap USING btree (is_open, next_time);
CREATE INDEX ix_gap_touched ON public.gap USING btree (touched) WHERE (touched > 0);
CREATE INDEX ix_invitation_person ON public.invitation USING btree (person);
CREATE INDEX ix_letter_state ON public.letter USING btree (state) WHERE ((state)::text <> ''::text);
CREATE INDEX ix_meter_microgrid ON public.meter USING btree (microgrid);
CREATE INDEX ix_part_key ON public.part USING btree (quarter, meter_no, record_type);
CREATE INDEX ix_period_open ON public.period USING btree (job, start) WHERE (done IS NULL);
CREATE INDEX ix_purchase_open ON public.purchase USING btree (quarter) WHERE ((state)::text = 'open'::text);
CREATE INDEX ix_recovery_code_person ON public.recovery_code USING btree (person);
CREATE INDEX ix_registry_change_subject ON public.registry_change USING btree (subject);
CREATE INDEX ix_session_person ON public.session USING btree (person);
CREATE INDEX ix_started_login_person ON public.started_login USING btree (person);
CREATE INDEX ix_usage_month_subject ON public.usage_month USING btree (scope, subject, month);
ALTER INDEX public.ix_compacted_conflicts ATTACH PARTITION public.compacted_2027_01_owner_no_idx;
ALTER INDEX public.pk_compacted ATTACH PARTITION public.compacted_2027_01_pkey;
ALTER INDEX public.ix_compacted_conflicts ATTACH PARTITION public.compacted_2027_03_owner_no_idx;
ALTER INDEX public.pk_compacted ATTACH PARTITION public.compacted_2027_03_pkey;
CREATE TRIGGER audit_only_grows BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit FOR EACH STATEMENT EXECUTE FUNCTION public.audit_only_grows();
ALTER TABLE ONLY public.api_token
    ADD CONSTRAINT fk_api_token_person FOREIGN KEY (person) REFERENCES public.person(name);
ALTER TABLE ONLY public.bill
    ADD CONSTRAINT fk_bill_run_no FOREIGN KEY (run_no) REFERENCES public.bill_run(no);
ALTER TABLE ONLY public.command
    ADD CONSTRAINT fk_command_controller FOREIGN KEY (controller) REFERENCES public.controller(id);
ALTER TABLE ONLY public.control_target
    ADD CONSTRAINT fk_control_target_change_no FOREIGN KEY (change_no) REFERENCES public.control_change(no);
ALTER TABLE ONLY public.control_target
    ADD CONSTRAINT fk_control_target_controller FOREIGN KEY (controller) REFERENCES public.controller(id);
ALTER TABLE ONLY public.control_version
    ADD CONSTRAINT fk_control_version_change_no FOREIGN KEY (change_no) REFERENCES public.control_change(no);
ALTER TABLE ONLY public.control_version
    ADD CONSTRAINT fk_control_version_controller FOREIGN KEY (controller) REFERENCES public.controller(id);
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
ALTER TABLE ONLY public.invitation
    ADD CONSTRAINT fk_invitation_person FOREIGN KEY (person) REFERENCES public.person(name);
ALTER TABLE ONLY public.meter
    ADD CONSTRAINT fk_meter_microgrid FOREIGN KEY (microgrid) REFERENCES public.controller(id);
ALTER TABLE ONLY public.person_role
    ADD CONSTRAINT fk_person_role_person FOREIGN KEY (person) REFERENCES public.person(name);
ALTER TABLE ONLY public.rates_told
    ADD CONSTRAINT fk_rates_told_controller FOREIGN KEY (controller) REFERENCES public.controller(id);
ALTER TABLE ONLY public.ration
    ADD CONSTRAINT fk_ration_controller FOREIGN KEY (controller) REFERENCES public.controller(id);
ALTER TABLE ONLY public.recovery_code
    ADD CONSTRAINT fk_recovery_code_person FOREIGN KEY (person) REFERENCES public.person(name);
ALTER TABLE ONLY public.relayed_day
    ADD CONSTRAINT fk_relayed_day_controller FOREIGN KEY (controller) REFERENCES public.controller(id);
ALTER TABLE ONLY public.second_factor
    ADD CONSTRAINT fk_second_factor_person FOREIGN KEY (person) REFERENCES public.person(name);
ALTER TABLE ONLY public.series
    ADD CONSTRAINT fk_series_meter_no FOREIGN KEY (meter_no) REFERENCES public.meter(no);
ALTER TABLE ONLY public.session
    ADD CONSTRAINT fk_session_person FOREIGN KEY (person) REFERENCES public.person(name);
ALTER TABLE ONLY public.started_login
    ADD CONSTRAINT fk_started_login_person FOREIGN KEY (person) REFERENCES public.person(name);
ALTER TABLE ONLY public.tally
    ADD CONSTRAINT fk_tally_controller FOREIGN KEY (controller) REFERENCES public.controller(id);
ALTER TABLE ONLY public.weights_told
    ADD CONSTRAINT fk_weights_told_controller FOREIGN KEY (controller) REFERENCES public.controller(id);

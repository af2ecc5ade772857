-- The bytes and the events by month, so that old months can move out: who sent what to whom and how it ended stays.
-- Months are those of Vietnam, as in every report. What is there becomes the first month without being copied, and that
-- month reaches back to the beginning.

-- When signed bytes were stored: the moment of the transaction that did it. Who refers to them says the same moment
-- beside the id, so that only one month is looked at. What was stored before says that it was stored now.
DO $$
BEGIN
    EXECUTE format('ALTER TABLE signed_objects ADD COLUMN stored_at timestamptz NOT NULL DEFAULT %L', now());
    EXECUTE format('ALTER TABLE deliveries ADD COLUMN stored_at timestamptz NOT NULL DEFAULT %L', now());
END
$$;
ALTER TABLE signed_objects ALTER COLUMN stored_at DROP DEFAULT;
ALTER TABLE deliveries ALTER COLUMN stored_at DROP DEFAULT;
-- What belongs to a month; its entries follow each other nearly in order, so the index is tiny.
CREATE INDEX deliveries_by_month ON deliveries USING brin (stored_at);

-- What refers to signed bytes outlives them. That they are there as long as their month is not archived, the audit says.
ALTER TABLE documents DROP CONSTRAINT documents_document_id_fkey;
ALTER TABLE deliveries DROP CONSTRAINT deliveries_object_id_fkey;
ALTER TABLE receipts DROP CONSTRAINT receipts_receipt_id_fkey;
ALTER TABLE statuses DROP CONSTRAINT statuses_status_id_fkey;
ALTER TABLE refusals DROP CONSTRAINT refusals_notice_id_fkey;

-- Months that have moved out: where to, and what was in them.
CREATE TABLE archives (
    month       date        PRIMARY KEY CHECK (extract(day FROM month) = 1),
    until       timestamptz NOT NULL,
    file        text        NOT NULL,
    sha256      text        NOT NULL,
    manifest    jsonb       NOT NULL,
    archived_at timestamptz NOT NULL,
    actor       text        NOT NULL,
    reason      text        NOT NULL
);
-- Until when they reach. They follow each other without a gap, so one moment says of everything whether it is there.
CREATE VIEW archived AS SELECT coalesce(max(until), '-infinity') AS until FROM archives;
GRANT SELECT ON archives, archived TO truc_hub;

CREATE FUNCTION month_of(moment timestamptz) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT date_trunc('month', moment AT TIME ZONE interval '7 hours')::date
$$;
CREATE FUNCTION beginning_of(month date) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT date_trunc('month', month::timestamp) AT TIME ZONE interval '7 hours'
$$;

-- The months that have tables, of the ledger and of signed objects alike.
CREATE VIEW months AS
    SELECT month, beginning_of((month + interval '1 month')::date) AS until,
        'ledger' || to_char(month, '_YYYY_MM') AS events_in, 'signed_objects' || to_char(month, '_YYYY_MM') AS bytes_in
    FROM pg_inherits
    JOIN pg_class ON pg_class.oid = inhrelid
    CROSS JOIN LATERAL to_date(substring(relname FROM '\d{4}_\d{2}$'), 'YYYY_MM') AS month
    WHERE inhparent = to_regclass('ledger') AND month IS NOT NULL;

-- The ledger. The number of an event is given by a sequence, and nobody may choose it.
DROP VIEW owed, last_events;
ALTER TABLE ledger ALTER COLUMN event_id DROP IDENTITY;
CREATE SEQUENCE ledger_event_id_seq;
SELECT setval('ledger_event_id_seq', coalesce(max(event_id), 0) + 1, false) FROM ledger;
ALTER TABLE ledger ALTER COLUMN event_id SET DEFAULT nextval('ledger_event_id_seq');

DO $$
DECLARE
    -- Clocks differ, so the last event may be of the next month already.
    month date := month_of(greatest(
        now(), (SELECT max(at) FROM (SELECT at FROM ledger ORDER BY event_id DESC LIMIT 10000) AS last)
    ));
    name  text := to_char(month, '_YYYY_MM');
    until timestamptz := beginning_of((month + interval '1 month')::date);
BEGIN
    EXECUTE format('ALTER TABLE ledger RENAME TO %I', 'ledger' || name);
    EXECUTE format('ALTER INDEX ledger_pkey RENAME TO %I', 'ledger' || name || '_pkey');
    EXECUTE format('ALTER INDEX ledger_by_document RENAME TO %I', 'ledger' || name || '_by_document');
    EXECUTE format('CREATE TABLE ledger (LIKE %I INCLUDING DEFAULTS) PARTITION BY RANGE (at)', 'ledger' || name);
    CREATE INDEX ledger_by_document ON ledger (document_id) WHERE document_id IS NOT NULL;
    EXECUTE format('ALTER TABLE ledger ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)', 'ledger' || name, until);
    EXECUTE format('REVOKE ALL ON %I FROM truc_hub', 'ledger' || name);

    EXECUTE format('ALTER TABLE signed_objects RENAME TO %I', 'signed_objects' || name);
    EXECUTE format('ALTER INDEX signed_objects_pkey RENAME TO %I', 'signed_objects' || name || '_pkey');
    EXECUTE format(
        'CREATE TABLE signed_objects (LIKE %I INCLUDING CONSTRAINTS INCLUDING STORAGE) PARTITION BY RANGE (stored_at)',
        'signed_objects' || name
    );
    EXECUTE format(
        'ALTER TABLE signed_objects ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)', 'signed_objects' || name, until
    );
    EXECUTE format('REVOKE ALL ON %I FROM truc_hub', 'signed_objects' || name);
END
$$;
ALTER SEQUENCE ledger_event_id_seq OWNED BY ledger.event_id;

-- Where a month is missing, nothing is refused: it lies here, and the audit says so. Keys belong to each month: what is
-- accepted once is known from documents, receipts, statuses and refusals.
CREATE TABLE ledger_default PARTITION OF ledger (PRIMARY KEY (event_id)) DEFAULT;
CREATE TABLE signed_objects_default PARTITION OF signed_objects (PRIMARY KEY (object_id)) DEFAULT;

CREATE VIEW owed AS
    SELECT document_id, recipient
    FROM ledger
    CROSS JOIN LATERAL jsonb_array_elements_text(detail -> 'recipients') AS recipient
    WHERE event IN ('document.accepted', 'document.redirected');
CREATE VIEW last_events AS
    SELECT DISTINCT ON (delivery_id) delivery_id, event_id, at, event, actor, code, state, detail
    FROM ledger
    WHERE delivery_id IS NOT NULL AND state IS NOT NULL
    ORDER BY delivery_id, event_id DESC;

-- Makes the months that are missing, up to the one of `until`, at most two years ahead; returns how many. What lies in the
-- default because its month was missing moves into it. The hub may not make tables, so this runs with the rights of
-- their owner. Whoever reads all months would have to be waited for, and everybody else behind that: this gives up soon.
CREATE FUNCTION make_months(until timestamptz) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    newest date;
    wanted date := month_of(least(until, now() + interval '2 years'));
    made   integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('truc months'));
    SELECT max(month) INTO newest FROM months;
    IF newest < wanted THEN
        LOCK TABLE ledger_default, signed_objects_default IN ACCESS EXCLUSIVE MODE;
    END IF;
    WHILE newest < wanted LOOP
        newest := (newest + interval '1 month')::date;
        PERFORM make_month('ledger', 'event_id', 'at', newest), make_month('signed_objects', 'object_id', 'stored_at', newest);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Makes one month of one table. Attached, not made as a part: that would keep everybody from the whole table meanwhile.
CREATE FUNCTION make_month(parent text, key text, moment text, month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name  text := parent || to_char(month, '_YYYY_MM');
    first timestamptz := beginning_of(month);
    until timestamptz := beginning_of((month + interval '1 month')::date);
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL, PRIMARY KEY (%I))', name, parent, key);
    EXECUTE format(
        'WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *) INSERT INTO %I SELECT * FROM moved',
        parent || '_default', moment, first, moment, until, name
    );
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, first, until);
END
$$;
REVOKE ALL ON FUNCTION make_months(timestamptz), make_month(text, text, text, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_months(timestamptz) TO truc_hub;

SELECT make_months(now() + interval '3 months');

GRANT SELECT ON
    signed_objects, ledger, owed, last_events, months, ledger_default, signed_objects_default
    TO truc_hub;
GRANT INSERT ON signed_objects TO truc_hub;
GRANT INSERT (at, event, actor, document_id, delivery_id, code, state, detail) ON ledger TO truc_hub;
GRANT USAGE ON SEQUENCE ledger_event_id_seq TO truc_hub;

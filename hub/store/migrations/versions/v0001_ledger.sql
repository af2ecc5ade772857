-- The ledger of the axis. Signed bytes are kept once and never changed; every change of a delivery is an event.

-- Signed objects: documents, receipts, notices, by SHA-256 of their signing input. What refers to them is checked at
-- the commit, so a transaction may first find out what is new.
CREATE TABLE signed_objects (
    object_id bytea PRIMARY KEY CHECK (length(object_id) = 32),
    typ       text  NOT NULL,
    token     bytea NOT NULL
);
-- Base64 of signed bytes does not compress; the attempt would only cost time.
ALTER TABLE signed_objects ALTER COLUMN token SET STORAGE EXTERNAL;

CREATE TABLE documents (
    document_id     bytea PRIMARY KEY REFERENCES signed_objects (object_id) DEFERRABLE INITIALLY DEFERRED,
    sender          text        NOT NULL,
    envelope_id     uuid        NOT NULL,
    via             text,
    sender_tier     text        NOT NULL,
    action          text        NOT NULL,
    refs            bytea[]     NOT NULL DEFAULT '{}',
    printed_number  text        NOT NULL,
    kind            text        NOT NULL,
    subject         text        NOT NULL,
    issued_on       date        NOT NULL,
    urgency         smallint    NOT NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    accepted_at     timestamptz NOT NULL,
    recipients      integer     NOT NULL CHECK (recipients > 0),
    directory_epoch bigint      NOT NULL,
    UNIQUE (envelope_id, sender)
);
CREATE INDEX documents_by_number ON documents (lower(printed_number));
CREATE INDEX documents_by_time ON documents (accepted_at);

-- One signed object for one recipient; the id is a function of both. Documents are answered by receipts; letters (receipts passed on, notices) are
-- not, and end as routed.
CREATE TABLE deliveries (
    delivery_id     uuid PRIMARY KEY,
    object_id       bytea       NOT NULL REFERENCES signed_objects (object_id),
    typ             text        NOT NULL,
    sender          text        NOT NULL,
    recipient       text        NOT NULL,
    recipient_tier  text,
    state           text        NOT NULL
        CHECK (state IN ('pending', 'routed', 'received', 'dead', 'held', 'expired')),
    attempts        integer     NOT NULL DEFAULT 0,
    urgency         smallint    NOT NULL DEFAULT 0,
    code            text,
    created_at      timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    next_attempt_at timestamptz,
    receipt_due_at  timestamptz,
    expires_at      timestamptz NOT NULL,
    UNIQUE (object_id, recipient),
    CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CHECK (state = 'routed' OR receipt_due_at IS NULL)
);
-- A queue in a table: every state a delivery passes leaves a dead row behind.
ALTER TABLE deliveries SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX deliveries_pending ON deliveries (urgency, next_attempt_at) WHERE state = 'pending';
CREATE INDEX deliveries_awaiting_receipt ON deliveries (receipt_due_at) WHERE receipt_due_at IS NOT NULL;
CREATE INDEX deliveries_by_end_of_life ON deliveries (expires_at)
    WHERE state IN ('pending', 'held') OR receipt_due_at IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (changed_at) WHERE state = 'dead';

-- Receipts by their identity: a receipt that comes again changes nothing.
CREATE TABLE receipts (
    receipt_id  bytea PRIMARY KEY REFERENCES signed_objects (object_id) DEFERRABLE INITIALLY DEFERRED,
    recipient   text        NOT NULL,
    sender      text,
    received_at timestamptz NOT NULL
);

-- Documents whose proven signer was refused, with the notice that told it: the answer to the same document again.
CREATE TABLE refusals (
    document_id bytea PRIMARY KEY CHECK (length(document_id) = 32),
    signer      text        NOT NULL,
    envelope_id uuid,
    code        text        NOT NULL,
    problems    jsonb       NOT NULL,
    body        bytea       NOT NULL,
    notice_id   bytea REFERENCES signed_objects (object_id) DEFERRABLE INITIALLY DEFERRED,
    refused_at  timestamptz NOT NULL
);
CREATE INDEX refusals_by_envelope ON refusals (envelope_id);
CREATE INDEX refusals_by_time ON refusals (refused_at);

-- Submissions put aside for a person. Of a body beyond the size of an envelope the beginning is kept, with its digest.
-- The claimed id is the identity of what the bytes pretend to be; nobody has proven it.
CREATE TABLE parked (
    parked_id    bytea PRIMARY KEY CHECK (length(parked_id) = 32),
    broker_user  text,
    routing_key  text        NOT NULL,
    message_id   text,
    code         text        NOT NULL,
    problems     jsonb       NOT NULL,
    body         bytea       NOT NULL,
    body_length  bigint      NOT NULL,
    body_sha256  bytea       NOT NULL,
    claimed_id   bytea       NOT NULL,
    parked_at    timestamptz NOT NULL
);
CREATE INDEX parked_by_time ON parked (parked_at);
CREATE INDEX parked_by_claim ON parked (claimed_id);

-- Who, when, what, why. Append-only: the hub's role may insert and read, nothing else.
CREATE TABLE ledger (
    event_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL,
    event       text        NOT NULL,
    actor       text        NOT NULL,
    document_id bytea,
    delivery_id uuid,
    code        text,
    state       text,
    detail      jsonb
);
CREATE INDEX ledger_by_document ON ledger (document_id) WHERE document_id IS NOT NULL;

-- The deliveries that the hub owes, by the events of acceptance and nothing else.
CREATE VIEW owed AS
    SELECT document_id, recipient
    FROM ledger
    CROSS JOIN LATERAL jsonb_array_elements_text(detail -> 'recipients') AS recipient
    WHERE event = 'document.accepted';

-- The last word of the ledger on each delivery.
CREATE VIEW last_events AS
    SELECT DISTINCT ON (delivery_id) delivery_id, event_id, at, event, actor, code, state, detail
    FROM ledger
    WHERE delivery_id IS NOT NULL AND state IS NOT NULL
    ORDER BY delivery_id, event_id DESC;

-- The directory, by date. An epoch is one import that changed something.
CREATE TABLE directory_epochs (
    epoch       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    imported_at timestamptz NOT NULL,
    actor       text        NOT NULL,
    source      text        NOT NULL,
    summary     jsonb       NOT NULL
);
CREATE TABLE directory_agencies (
    code       text NOT NULL,
    valid_from date NOT NULL,
    valid_to   date,
    name       text NOT NULL,
    tier       text NOT NULL,
    parent     text,
    endpoint   text,
    state      text NOT NULL,
    successors text[] NOT NULL,
    PRIMARY KEY (code, valid_from)
);
CREATE TABLE directory_platforms (
    code       text NOT NULL,
    valid_from date NOT NULL,
    valid_to   date,
    name       text NOT NULL,
    PRIMARY KEY (code, valid_from)
);
CREATE TABLE directory_mandates (
    platform   text NOT NULL,
    agency     text NOT NULL,
    valid_from date NOT NULL,
    valid_to   date,
    actions    text[] NOT NULL,
    PRIMARY KEY (platform, agency, valid_from)
);
CREATE TABLE directory_certificates (
    fingerprint text PRIMARY KEY,
    owner       text NOT NULL,
    pem         text NOT NULL,
    revoked_at  timestamptz
);

-- The role that the hub's processes take on. It can neither rewrite the ledger nor delete anything that was accepted.
-- Roles belong to the whole cluster, so another database may be making this one at the same moment.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'truc_hub') THEN
        CREATE ROLE truc_hub NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;
DO $$
BEGIN
    IF NOT pg_has_role('truc_hub', 'MEMBER') THEN
        GRANT truc_hub TO CURRENT_USER;
    END IF;
END
$$;
GRANT USAGE ON SCHEMA public TO truc_hub;
GRANT SELECT, INSERT ON
    signed_objects, documents, deliveries, receipts, refusals, parked, ledger,
    directory_epochs, directory_agencies, directory_platforms, directory_mandates, directory_certificates
    TO truc_hub;
GRANT UPDATE (state, attempts, code, changed_at, next_attempt_at, receipt_due_at) ON deliveries TO truc_hub;
GRANT UPDATE ON directory_agencies, directory_platforms, directory_mandates, directory_certificates TO truc_hub;
GRANT SELECT ON owed, last_events, alembic_version, applied_revisions TO truc_hub;

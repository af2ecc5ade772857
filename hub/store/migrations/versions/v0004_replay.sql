-- Dead letters and what people do about them; replays and what became of each of their items.

-- What needs a person: each delivery that died, each submission that was put aside; one id for both. A letter is closed
-- when its delivery is tried again or was received after all, and opened again when it dies again. Whose turn it is
-- follows from the code, in the catalogue.
CREATE TABLE dead_letters (
    letter_id   text PRIMARY KEY,
    kind        text        NOT NULL CHECK (kind IN ('delivery', 'submission')),
    delivery_id uuid REFERENCES deliveries (delivery_id),
    parked_id   bytea REFERENCES parked (parked_id),
    state       text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'dismissed', 'closed')),
    code        text        NOT NULL,
    agency      text        NOT NULL,  -- the recipient, or the broker user; empty when nobody is known
    sender      text,
    tier        text,
    document_id bytea       NOT NULL,
    since       timestamptz NOT NULL,
    times       integer     NOT NULL DEFAULT 1,
    CHECK (num_nonnulls(delivery_id, parked_id) = 1)
);
CREATE INDEX dead_letters_by_time ON dead_letters (state, since, letter_id);
CREATE INDEX dead_letters_by_group ON dead_letters (state, code, agency, since);
CREATE INDEX dead_letters_by_agency ON dead_letters (state, agency, since);
CREATE INDEX dead_letters_by_sender ON dead_letters (state, sender, since);
CREATE INDEX dead_letters_by_document ON dead_letters (document_id);

-- A million letters take 300 ms to count, so they are counted as they change. `first_seen` is when the group last
-- became one.
CREATE TABLE dead_groups (
    kind       text        NOT NULL,
    code       text        NOT NULL,
    agency     text        NOT NULL,
    open       bigint      NOT NULL,
    dismissed  bigint      NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL,
    PRIMARY KEY (kind, code, agency)
);

-- Whatever changes letters changes the counts, in the same transaction. The groups are taken in the order of their keys,
-- so that two transactions never wait crosswise.
CREATE FUNCTION count_new_letters() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dead_groups AS known (kind, code, agency, open, dismissed, first_seen, last_seen)
    SELECT kind, code, agency, count(*) FILTER (WHERE state = 'open'), count(*) FILTER (WHERE state = 'dismissed'),
        min(since), max(since)
    FROM new_letters
    GROUP BY kind, code, agency
    ORDER BY kind, code, agency
    ON CONFLICT (kind, code, agency) DO UPDATE SET
        open = known.open + EXCLUDED.open,
        dismissed = known.dismissed + EXCLUDED.dismissed,
        first_seen = CASE WHEN known.open + known.dismissed = 0 THEN EXCLUDED.first_seen ELSE known.first_seen END,
        last_seen = greatest(known.last_seen, EXCLUDED.last_seen);
    RETURN NULL;
END
$$;
CREATE FUNCTION count_changed_letters() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dead_groups AS known (kind, code, agency, open, dismissed, first_seen, last_seen)
    SELECT kind, code, agency, sum(number) FILTER (WHERE state = 'open'), sum(number) FILTER (WHERE state = 'dismissed'),
        min(since), max(since)
    FROM (
        SELECT kind, code, agency, state, since, 1 AS number FROM new_letters
        UNION ALL
        SELECT kind, code, agency, state, since, -1 FROM old_letters
        UNION ALL  -- a sum without rows is null
        SELECT kind, code, agency, state.state, since, 0 FROM new_letters, (VALUES ('open'), ('dismissed')) AS state (state)
        UNION ALL
        SELECT kind, code, agency, state.state, since, 0 FROM old_letters, (VALUES ('open'), ('dismissed')) AS state (state)
    ) AS change
    GROUP BY kind, code, agency
    ORDER BY kind, code, agency
    ON CONFLICT (kind, code, agency) DO UPDATE SET
        open = known.open + EXCLUDED.open,
        dismissed = known.dismissed + EXCLUDED.dismissed,
        first_seen = CASE WHEN known.open + known.dismissed = 0 THEN EXCLUDED.last_seen ELSE known.first_seen END,
        last_seen = greatest(known.last_seen, EXCLUDED.last_seen);
    RETURN NULL;
END
$$;
CREATE TRIGGER count_new_letters AFTER INSERT ON dead_letters
    REFERENCING NEW TABLE AS new_letters
    FOR EACH STATEMENT EXECUTE FUNCTION count_new_letters();
CREATE TRIGGER count_changed_letters AFTER UPDATE ON dead_letters
    REFERENCING OLD TABLE AS old_letters NEW TABLE AS new_letters
    FOR EACH STATEMENT EXECUTE FUNCTION count_changed_letters();

INSERT INTO dead_letters (letter_id, kind, delivery_id, code, agency, sender, tier, document_id, since)
SELECT delivery_id::text, 'delivery', delivery_id, coalesce(code, ''), recipient, sender, recipient_tier, object_id,
    changed_at
FROM deliveries
WHERE state = 'dead';
INSERT INTO dead_letters (letter_id, kind, parked_id, code, agency, document_id, since)
SELECT encode(parked_id, 'hex'), 'submission', parked_id, code, coalesce(broker_user, ''), claimed_id, parked_at
FROM parked;

-- What people wrote about a letter, or about a group such as `E807@H26`; who looks after it.
CREATE TABLE dead_notes (
    note_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    about   text        NOT NULL,
    at      timestamptz NOT NULL,
    actor   text        NOT NULL,
    text    text        NOT NULL
);
CREATE INDEX dead_notes_by_subject ON dead_notes (about, note_id);
CREATE TABLE dead_assignees (
    about    text PRIMARY KEY,
    assignee text        NOT NULL,
    actor    text        NOT NULL,
    at       timestamptz NOT NULL
);

-- A replay: a frozen selection, sent again.
CREATE TABLE replays (
    replay_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    purpose       text        NOT NULL CHECK (purpose IN ('dead-letters', 'catch-up')),
    state         text        NOT NULL CHECK (state IN (
        'planned', 'awaiting-second', 'running', 'paused', 'stopped', 'cancelled', 'done'
    )),
    selection     jsonb       NOT NULL,
    size          integer     NOT NULL,
    excluded      integer     NOT NULL,
    needs_second  boolean     NOT NULL,
    planned_by    text        NOT NULL,
    planned_at    timestamptz NOT NULL,
    mode          text CHECK (mode IN ('one', 'rate', 'all')),
    per_minute    integer CHECK (per_minute > 0),
    per_recipient integer CHECK (per_recipient > 0),
    reason        text,
    started_by    text,
    confirmed_by  text,
    watched_from  timestamptz,
    said          text,
    changed_by    text        NOT NULL,
    changed_at    timestamptz NOT NULL,
    CHECK (state IN ('planned', 'cancelled') OR (mode IS NOT NULL AND reason IS NOT NULL AND started_by IS NOT NULL)),
    CHECK (state <> 'running' OR NOT needs_second
        OR (confirmed_by IS NOT NULL AND confirmed_by NOT IN (planned_by, started_by)))
);
CREATE INDEX replays_open ON replays (replay_id) WHERE state IN ('planned', 'awaiting-second', 'running');

-- One item for each delivery or submission of a replay, for ever: what became of it, or why it was left out.
CREATE TABLE replay_items (
    replay_id       bigint      NOT NULL REFERENCES replays (replay_id),
    letter_id       text        NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('delivery', 'submission')),
    delivery_id     uuid REFERENCES deliveries (delivery_id),
    parked_id       bytea REFERENCES parked (parked_id),
    agency          text        NOT NULL,
    code            text        NOT NULL,
    since           timestamptz NOT NULL,
    position        integer     NOT NULL,
    released_at     timestamptz,
    next_attempt_at timestamptz,
    outcome         text CHECK (outcome IN (
        'excluded', 'skipped', 'cancelled', 'received', 'dead', 'expired', 'accepted', 'refused', 'parked', 'handed-out'
    )),
    because         text,
    ended_at        timestamptz,
    PRIMARY KEY (replay_id, letter_id),
    CHECK ((outcome IS NULL) = (ended_at IS NULL)),
    CHECK (released_at IS NULL OR outcome IS NULL OR outcome NOT IN ('excluded', 'skipped', 'cancelled')),
    CHECK (num_nonnulls(delivery_id, parked_id) = 1)
);
-- At most one open replay for a delivery.
CREATE UNIQUE INDEX replay_items_open ON replay_items (letter_id) WHERE outcome IS NULL;
CREATE INDEX replay_items_waiting ON replay_items (replay_id, position) WHERE outcome IS NULL AND released_at IS NULL;
CREATE INDEX replay_items_in_hand ON replay_items (replay_id) WHERE outcome IS NULL AND released_at IS NOT NULL;
CREATE INDEX replay_items_released ON replay_items (replay_id, released_at) WHERE released_at IS NOT NULL;

-- What a sender has taken back or replaced since.
CREATE INDEX documents_taking_back ON documents USING gin (refs) WHERE action IN ('revoke', 'replace');
-- What an agency has been given since a moment.
CREATE INDEX deliveries_handed_out ON deliveries (recipient, changed_at)
    WHERE state = 'received' OR (state = 'routed' AND typ <> 'truc.document.v1');
-- When an agency was last heard of.
CREATE INDEX receipts_by_recipient ON receipts (recipient, received_at);

-- A document that was redirected is owed to the successor as well.
CREATE OR REPLACE VIEW owed AS
    SELECT document_id, recipient
    FROM ledger
    CROSS JOIN LATERAL jsonb_array_elements_text(detail -> 'recipients') AS recipient
    WHERE event IN ('document.accepted', 'document.redirected');

GRANT SELECT, INSERT ON dead_letters, dead_groups, dead_notes, dead_assignees, replays, replay_items TO truc_hub;
GRANT UPDATE (state, code, since, times) ON dead_letters TO truc_hub;
GRANT UPDATE (open, dismissed, first_seen, last_seen) ON dead_groups TO truc_hub;
GRANT UPDATE (assignee, actor, at) ON dead_assignees TO truc_hub;
GRANT UPDATE ON replays TO truc_hub;
GRANT UPDATE (released_at, next_attempt_at, outcome, because, ended_at) ON replay_items TO truc_hub;

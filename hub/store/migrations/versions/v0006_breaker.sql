-- Recipients that are held, fair claims, and warnings before the end of a lifetime.

-- How it stands with each recipient, as far as anything is known about it: what `hub.core.breaker` decides by.
CREATE TABLE recipients (
    recipient     text PRIMARY KEY,
    phase         text        NOT NULL DEFAULT 'closed' CHECK (phase IN ('closed', 'open', 'probing', 'draining')),
    failures      integer     NOT NULL DEFAULT 0,
    code          text,
    failing_since timestamptz,
    seen_at       timestamptz,
    opened_at     timestamptz,
    probe         uuid,
    probes        integer     NOT NULL DEFAULT 0,
    released      integer     NOT NULL DEFAULT 0,
    settled       integer     NOT NULL DEFAULT 0,
    due_at        timestamptz,
    suspended     boolean     NOT NULL DEFAULT false,
    held_by       text,
    held_reason   text,
    held_at       timestamptz,
    CHECK ((phase = 'closed' AND NOT suspended) = (due_at IS NULL)),
    CHECK (phase = 'probing' OR probe IS NULL),
    CHECK (num_nulls(held_by, held_reason, held_at) IN (0, 3))
);
CREATE INDEX recipients_due ON recipients (due_at) WHERE due_at IS NOT NULL AND held_by IS NULL;
CREATE INDEX recipients_unwell ON recipients (recipient)
    WHERE phase <> 'closed' OR failures > 0 OR suspended OR held_by IS NOT NULL;

-- What is pending for each recipient, so that a claim can pass by those with very much.
CREATE INDEX deliveries_pending_by_recipient ON deliveries (urgency, recipient, next_attempt_at)
    WHERE state = 'pending';
-- What is held for a recipient, in the order in which it goes out.
CREATE INDEX deliveries_held ON deliveries (recipient, urgency DESC, changed_at) WHERE state = 'held';

-- When the sender is warned that the lifetime ends; null when it was, or is not to be.
ALTER TABLE deliveries ADD COLUMN warn_at timestamptz;
DROP INDEX deliveries_by_end_of_life;
CREATE INDEX deliveries_by_end_of_life ON deliveries (coalesce(warn_at, expires_at))
    WHERE state IN ('pending', 'held') OR receipt_due_at IS NOT NULL;

-- What waits for an agency, held or not; when it was last heard of stands in `recipients` from now on.
DROP INDEX deliveries_waiting, documents_by_sender;
CREATE INDEX deliveries_waiting ON deliveries (recipient, created_at)
    WHERE typ = 'truc.document.v1' AND state IN ('pending', 'routed', 'held');
INSERT INTO recipients (recipient, seen_at)
SELECT agency, max(at)
FROM (
    SELECT sender AS agency, max(accepted_at) AS at FROM documents GROUP BY sender
    UNION ALL
    SELECT recipient, max(received_at) FROM receipts GROUP BY recipient
    UNION ALL
    SELECT agency, max(arrived_at) FROM statuses GROUP BY agency
) AS seen
GROUP BY agency;

GRANT SELECT, INSERT, UPDATE ON recipients TO truc_hub;
GRANT UPDATE (warn_at) ON deliveries TO truc_hub;

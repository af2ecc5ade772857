-- Business statuses, and the links between documents.

-- Statuses by their identity: a status that comes again changes nothing. The delivery is the one that it claims to be
-- about; whether it exists and is the agency's own, the ledger's events say.
CREATE TABLE statuses (
    status_id   bytea PRIMARY KEY REFERENCES signed_objects (object_id) DEFERRABLE INITIALLY DEFERRED,
    delivery_id uuid        NOT NULL,
    agency      text        NOT NULL,
    status      text        NOT NULL,
    said_at     timestamptz NOT NULL,
    arrived_at  timestamptz NOT NULL
);

-- Where the recipient's office stands with a document, and what became of the wish to have it back or changed.
ALTER TABLE deliveries
    ADD COLUMN progress       text CHECK (progress IN ('01', '02', '03', '04', '05', '06')),
    ADD COLUMN request        text CHECK (request IN ('asked', 'agreed', 'declined')),
    ADD COLUMN standing_since timestamptz;

-- Documents of before this revision that recall, update or replace others ask for an answer as well.
UPDATE deliveries SET request = 'asked'
FROM documents
WHERE document_id = object_id AND action <> 'new';

-- What recalls, updates or replaces a document. Documents that refer to nothing are not in it.
CREATE INDEX documents_by_ref ON documents USING gin (refs) WHERE refs <> '{}';

GRANT SELECT, INSERT ON statuses TO truc_hub;
GRANT UPDATE (progress, request, standing_since) ON deliveries TO truc_hub;

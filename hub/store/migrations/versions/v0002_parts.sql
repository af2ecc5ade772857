-- Parts: what is in the blob store, who has uploaded it, which documents name it.

-- A finished part, once for everybody. Its object has a key of its own that is never used again, so what is deleted can
-- not be what somebody has just uploaded. `uploaded_at` is when somebody last brought it, or would have.
CREATE TABLE parts (
    sha256      bytea PRIMARY KEY CHECK (length(sha256) = 32),
    length      bigint      NOT NULL CHECK (length >= 0),
    object_key  text        NOT NULL UNIQUE,
    uploaded_at timestamptz NOT NULL
);
CREATE INDEX parts_by_time ON parts (uploaded_at);

-- Who has brought all bytes of a part. Only they may put it into a document: to know a digest is not to know the bytes,
-- and a document to an accomplice would otherwise fetch what its sender never had.
CREATE TABLE part_holders (
    sha256 bytea NOT NULL REFERENCES parts ON DELETE CASCADE,
    agency text  NOT NULL,
    PRIMARY KEY (sha256, agency)
);

-- Which documents name it; such a part can not be deleted.
CREATE TABLE document_parts (
    document_id bytea NOT NULL REFERENCES documents,
    sha256      bytea NOT NULL REFERENCES parts,
    PRIMARY KEY (document_id, sha256)
);
CREATE INDEX document_parts_by_part ON document_parts (sha256);

GRANT SELECT, INSERT ON parts, part_holders, document_parts TO truc_hub;
GRANT UPDATE (uploaded_at), DELETE ON parts TO truc_hub;

-- The epoch that last wrote each entry of the directory; 0 is before this was known, so older than any snapshot. There
-- is no default: an import by an older version of the hub fails, and cannot go unnoticed.
ALTER TABLE directory_agencies ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
ALTER TABLE directory_platforms ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
ALTER TABLE directory_mandates ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
ALTER TABLE directory_certificates ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
ALTER TABLE directory_agencies ALTER COLUMN epoch DROP DEFAULT;
ALTER TABLE directory_platforms ALTER COLUMN epoch DROP DEFAULT;
ALTER TABLE directory_mandates ALTER COLUMN epoch DROP DEFAULT;
ALTER TABLE directory_certificates ALTER COLUMN epoch DROP DEFAULT;

-- What was written since an epoch, and what begins or ends on a day.
CREATE INDEX directory_agencies_by_epoch ON directory_agencies (epoch);
CREATE INDEX directory_agencies_by_first_day ON directory_agencies (valid_from);
CREATE INDEX directory_agencies_by_last_day ON directory_agencies (valid_to) WHERE valid_to IS NOT NULL;
CREATE INDEX directory_platforms_by_epoch ON directory_platforms (epoch);
CREATE INDEX directory_mandates_by_epoch ON directory_mandates (epoch);
CREATE INDEX directory_mandates_by_first_day ON directory_mandates (valid_from);
CREATE INDEX directory_mandates_by_last_day ON directory_mandates (valid_to) WHERE valid_to IS NOT NULL;
CREATE INDEX directory_certificates_by_epoch ON directory_certificates (epoch);

-- Nothing is known about a new column before somebody has looked.
ANALYZE directory_agencies, directory_platforms, directory_mandates, directory_certificates;

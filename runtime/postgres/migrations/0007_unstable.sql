-- Since when a download has changed its state so often that its changes are not told.
ALTER TABLE downloads ADD COLUMN unstable_since timestamptz;
CREATE INDEX downloads_unstable ON downloads (updated_at) WHERE unstable_since IS NOT NULL;

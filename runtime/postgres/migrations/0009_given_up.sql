-- Whether the download failed because it was never handed over to its client. Before, the error
-- message said so.
ALTER TABLE downloads ADD COLUMN given_up boolean NOT NULL DEFAULT false;
UPDATE downloads SET given_up = true
WHERE state = 'failed'
  AND error_message = 'mediabus was stopped before ' || client
                      || ' had the download: initiate it again';

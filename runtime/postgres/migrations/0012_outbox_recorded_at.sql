-- When the row was recorded. `occurred_at` may be years earlier, as for imported history.
ALTER TABLE outbox ADD COLUMN recorded_at timestamptz NOT NULL DEFAULT now();

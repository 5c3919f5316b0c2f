-- Stored events hold no client secrets, and lose their payloads some time after they are settled.

-- FALSE: stored by a release that took no client secrets out. The worker takes them out, a few rows at a time.
ALTER TABLE stripe_events ADD COLUMN secrets_removed boolean NOT NULL DEFAULT FALSE;

ALTER TABLE stripe_events ADD COLUMN payload_forgotten_at timestamptz;

CREATE INDEX stripe_events_with_secrets ON stripe_events (received_at) WHERE NOT secrets_removed;

CREATE INDEX stripe_events_to_forget ON stripe_events (settled_at)
WHERE state IN ('applied', 'ignored', 'discarded') AND waits_for IS NULL AND payload_forgotten_at IS NULL;

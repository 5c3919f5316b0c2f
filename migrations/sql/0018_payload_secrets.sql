-- Stored events hold no client secrets, and lose their payloads some time after they are settled.

-- FALSE: stored by a release that took no client secrets out. The worker takes them out, a few rows at a time.
ALTER TABLE stripe_events ADD COLUMN secrets_removed boolean NOT NULL DEFAULT FALSE;

ALTER TABLE stripe_events ADD COLUMN payload_forgotten_at timestamptz;

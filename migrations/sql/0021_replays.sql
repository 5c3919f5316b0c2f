-- Replays are stored with their progress, so that an interrupted one resumes where it stopped. A discarded event or
-- message keeps its error beside the reason of the person who discarded it.

CREATE TABLE replay_batches (
    id uuid PRIMARY KEY,
    -- What is replayed: Stripe events or outbound messages.
    kind text NOT NULL,
    -- Which of them: named ids, or a filter.
    ids text [],
    filter jsonb,
    actor text NOT NULL,
    reason text,
    options jsonb NOT NULL,
    state text NOT NULL DEFAULT 'running',
    -- The process that runs the batch. It is the fence: a process that lost the batch commits nothing more.
    holder uuid NOT NULL,
    -- What is selected: nothing that arrived later.
    until timestamptz NOT NULL DEFAULT now(),
    -- Where the selection continues: after this row of the filter, or at this place among the ids.
    after_at timestamptz,
    after_id text,
    next_place integer NOT NULL DEFAULT 0,
    -- What is selected and has no result yet.
    in_flight text [] NOT NULL DEFAULT '{}',
    selected bigint NOT NULL DEFAULT 0,
    applied bigint NOT NULL DEFAULT 0,
    noop bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    -- The first failures, each with its id and its error.
    failures jsonb NOT NULL DEFAULT '[]',
    started_at timestamptz NOT NULL DEFAULT now(),
    -- A running batch that has not been saved for some minutes has lost its process.
    saved_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT replay_batches_kind_known CHECK (kind IN ('events', 'messages')),
    CONSTRAINT replay_batches_state_known CHECK (state IN ('running', 'stopped', 'finished')),
    CONSTRAINT replay_batches_ids_or_filter CHECK ((ids IS NULL) <> (filter IS NULL)),
    CONSTRAINT replay_batches_finished_with_moment CHECK ((state = 'finished') = (finished_at IS NOT NULL)),
    CONSTRAINT replay_batches_reason_length CHECK (length(reason) <= 500)
);

CREATE UNIQUE INDEX replay_batches_one_running ON replay_batches (kind)
WHERE state = 'running';

CREATE INDEX replay_batches_by_age ON replay_batches (started_at DESC, id DESC);

-- What a replay of events did to each organization.
CREATE TABLE replay_batch_organizations (
    batch_id uuid NOT NULL REFERENCES replay_batches (id),
    organization_id uuid NOT NULL,
    balance_before numeric(38, 9) NOT NULL,
    balance_after numeric(38, 9) NOT NULL,
    transactions bigint NOT NULL,
    -- The first of them.
    transaction_ids uuid [] NOT NULL,
    PRIMARY KEY (batch_id, organization_id)
);

ALTER TABLE stripe_events ADD COLUMN discard_reason text;

ALTER TABLE outbound_messages ADD COLUMN discard_reason text;

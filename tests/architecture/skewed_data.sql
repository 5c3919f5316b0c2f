INSERT INTO organizations (id, slug, name, stripe_customer_id)
SELECT md5('o' || n)::uuid, 'o-' || n, 'o', 'cus_' || n FROM generate_series(1, :rows / 10) AS n;

INSERT INTO accounts (organization_id, next_due_at)
SELECT md5('o' || n)::uuid, CASE n % 3 WHEN 0 THEN now() + interval '1 day' END
FROM generate_series(1, :rows / 10) AS n;

INSERT INTO auto_recharges (
    organization_id, state, threshold, amount, consented_at, schedule, schedule_day, schedule_amount, next_run_at
)
SELECT md5('o' || n)::uuid, 'active', 1, 10, now(), 'monthly', 1, 5, now() + interval '9 days'
FROM generate_series(1, :rows / 10) AS n;

INSERT INTO credit_transactions (
    organization_id, seq, id, type, amount, counterparty, balance_after, consumed_after, idempotency_key,
    request_digest, effective_at, created_at, category, hash
)
SELECT
    md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid, n, md5('t' || n)::uuid, 'usage', -1,
    'revenue', 0, n, 'k' || n, '\x00', now(), now(), 'tokens', '\x00'
FROM generate_series(1, :rows) AS n;

INSERT INTO credit_grants (
    organization_id, id, transaction_id, seq, original, remaining, promotional, expires_at, created_at
)
SELECT
    md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid, md5('g' || n)::uuid, md5('t' || n)::uuid, n,
    1, n % 2, TRUE, CASE n % 3 WHEN 0 THEN now() + n * interval '1 s' END, now()
FROM generate_series(1, :rows) AS n;

INSERT INTO burn_segments (organization_id, lower, upper, grant_id)
SELECT md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid, n, n + 1, md5('g' || n)::uuid
FROM generate_series(1, :rows) AS n;

INSERT INTO holds (
    organization_id, id, status, amount, idempotency_key, request_digest, expires_at, created_at, closed_at
)
SELECT
    md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid, md5('h' || n)::uuid, 'released', 1, 'k' || n,
    '\x00', now(), now(), now()
FROM generate_series(1, :rows) AS n;

INSERT INTO usage_totals (organization_id, category, hour, quantity, cost, transactions)
SELECT
    md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid, 'c' || n % 5,
    '2020-01-01'::timestamptz + n * interval '1 hour', 1, 1, 1
FROM generate_series(1, :rows) AS n;

INSERT INTO usage_breakdowns (organization_id, hour, subject_sha256, subject, quantity, cost, transactions)
SELECT
    md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid,
    '2020-01-01'::timestamptz + n * interval '1 hour', sha256(int4send(n)), '{"user": "u"}', 1, 1, 1
FROM generate_series(1, :rows) AS n;

INSERT INTO recharge_attempts (organization_id, id, state, created_at, settled_at, reason, payment_intent_id)
SELECT
    md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid, md5('a' || n)::uuid, 'canceled', now(), now(),
    'not_needed', 'pi_' || n
FROM generate_series(1, :rows) AS n;

INSERT INTO stripe_events (account, livemode, id, type, stripe_created_at, payload, state, settled_at)
SELECT '', FALSE, 'evt_' || n, 'charge.updated', now(), '{}', 'applied', now()
FROM generate_series(1, :rows) AS n;

INSERT INTO outbound_messages (id, endpoint_id, organization_id, type, payload, state, settled_at, last_status)
SELECT
    md5('m' || n)::uuid, md5('e')::uuid, md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid,
    'credits.low', '{}', 'delivered', now(), 200
FROM generate_series(1, :rows) AS n;

INSERT INTO purchases (id, organization_id, state, amount_minor, currency, checkout_session_id, settled_at)
SELECT md5('p' || n)::uuid, md5('o' || n / 10)::uuid, 'paid', 1, 'usd', 'cs_' || n, now()
FROM generate_series(1, :rows) AS n;

INSERT INTO stripe_payments (payment_intent_id, organization_id, amount_minor, currency, credits, charge_id)
SELECT
    'pi_' || n, md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid, 1, 'usd', 1, 'ch_' || n
FROM generate_series(1, :rows) AS n;

INSERT INTO stripe_invoices (invoice_id, organization_id)
SELECT 'in_' || n, md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid FROM generate_series(1, :rows) AS n;

INSERT INTO payment_methods (id, organization_id, customer_id, type, fingerprint, as_of)
SELECT 'pm_' || n, md5('o' || n)::uuid, 'cus_' || n, 'card', 'f' || n, now()
FROM generate_series(1, :rows / 10) AS n;

INSERT INTO audit_log (id, actor, action, subject)
SELECT md5('l' || n)::uuid, 'somebody', 'keys.create', 's' || n FROM generate_series(1, :rows) AS n;

INSERT INTO idempotent_requests (tenant_id, key, digest, id, locked_until)
SELECT
    md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid, 'k' || n, '\x00', md5('i' || n)::uuid, now()
FROM generate_series(1, :rows) AS n;

INSERT INTO recharge_attempts (organization_id, id, created_at)
SELECT md5('o' || n)::uuid, md5('b' || n)::uuid, now() FROM generate_series(1, :rows / 10) AS n;

INSERT INTO stripe_events (account, livemode, id, type, stripe_created_at, payload)
SELECT '', FALSE, 'evt_r' || n, 'charge.updated', now(), '{}' FROM generate_series(1, :rows / 10) AS n;

INSERT INTO purchases (id, organization_id, amount_minor, currency, checkout_session_id)
SELECT md5('q' || n)::uuid, md5('o' || n)::uuid, 1, 'usd', 'cs_o' || n FROM generate_series(1, :rows / 10) AS n;

INSERT INTO payment_methods (id, organization_id, customer_id, type, as_of)
SELECT 'pm_u' || n, md5('o' || n)::uuid, 'cus_' || n, 'card', to_timestamp(0)
FROM generate_series(1, :rows / 10) AS n;

INSERT INTO outbound_messages (id, endpoint_id, organization_id, type, payload)
SELECT md5('n' || n)::uuid, md5('e')::uuid, md5('o' || n)::uuid, 'credits.low', '{}'
FROM generate_series(1, :rows / 10) AS n;

INSERT INTO metric_samples (sampled_at, name, value)
SELECT '2020-01-01'::timestamptz + n * interval '1 minute', 'backlog', 0 FROM generate_series(1, :rows) AS n;

INSERT INTO budgets (
    organization_id, id, subject_kind, subject, window_kind, limit_amount, action, thresholds, created_at, updated_at
)
SELECT
    md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid, md5('b' || n)::uuid, 'user', 's' || n, 'total', 1,
    'refuse', '{80}', now(), now()
FROM generate_series(1, :rows) AS n;

INSERT INTO budget_counters (organization_id, budget_id, subject, window_end, used, held)
SELECT
    md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid,
    md5('b' || CASE WHEN n % 10 = 0 THEN n ELSE 1 END)::uuid, 's' || n, now(), 1, 0
FROM generate_series(1, :rows) AS n;

INSERT INTO api_keys (id, name, scope, organization_id, key_sha256, key_hint)
SELECT
    md5('k' || n)::uuid, 'k' || n, 'read', md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid,
    sha256(int4send(n)), 'hint'
FROM generate_series(1, :rows) AS n;

INSERT INTO stripe_disputes (id, organization_id, payment_intent_id, amount_minor, currency, status, opened_at)
SELECT
    'dp_' || n, md5('o' || CASE WHEN n % 10 = 0 THEN n / 10 ELSE 1 END)::uuid, 'pi_' || n, 1, 'usd', 'lost', now()
FROM generate_series(1, :rows) AS n;

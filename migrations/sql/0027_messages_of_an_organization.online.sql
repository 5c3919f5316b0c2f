-- The messages of one organization, newest first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS outbound_messages_by_organization ON outbound_messages (
    organization_id, created_at DESC, id DESC, endpoint_id DESC
)
WHERE created_at IS NOT NULL;

-- The search of the console finds organizations by their e-mail address.
CREATE INDEX CONCURRENTLY IF NOT EXISTS organizations_by_email ON organizations (email) WHERE email IS NOT NULL;

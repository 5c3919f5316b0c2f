-- Nothing but the index of 0027_messages_of_an_organization.online.sql.
SELECT 1;

-- Nothing but the index of 0036_open_disputes.online.sql.
SELECT 1;

-- Retention of delivered messages and of the details of ended recharge attempts: the indexes are in the online file.
SELECT 1;

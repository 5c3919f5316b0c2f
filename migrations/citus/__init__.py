"""The schema on a Citus cluster: how its tables are distributed, and the functions that differ."""

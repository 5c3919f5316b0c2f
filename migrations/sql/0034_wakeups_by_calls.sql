-- What arms an attempt calls wake_recharge_workers: a trigger on a distributed table would notify on its shard.

DROP TRIGGER recharge_attempts_armed ON recharge_attempts;

DROP FUNCTION tell_recharge_workers();

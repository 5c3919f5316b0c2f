#!/usr/bin/env bash
# Runs the suite on the embedded servers, then on Debian's PostgreSQL 15 and Redis 7.
# PREPAID_POSTGRES_BIN and PREPAID_REDIS_BIN name other servers for the second run.
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
postgres=${PREPAID_POSTGRES_BIN:-/usr/lib/postgresql/15/bin}
redis=${PREPAID_REDIS_BIN:-/usr/bin/redis-server}

missing=()
[ -x "$postgres/initdb" ] || missing+=(postgresql-15)
[ -x "$redis" ] || missing+=(redis-server)

# Installing must not start system services: invoke-rc.d asks this program, and 101 means no.
policy=/usr/sbin/policy-rc.d
forget_policy() { [ -z "${policy_is_ours:-}" ] || rm -f "$policy"; }
trap forget_policy EXIT

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
    echo "missing: ${missing[*]}; install them (apt-get install ${missing[*]}), or set" \
      "PREPAID_POSTGRES_BIN and PREPAID_REDIS_BIN" >&2
    exit 1
  fi
  if [ ! -e "$policy" ]; then
    policy_is_ours=yes
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq --no-install-recommends "${missing[@]}"
  forget_policy
  policy_is_ours=
fi

echo "== embedded PostgreSQL and Valkey"
env -u DATABASE_URL -u REDIS_URL -u PREPAID_POSTGRES_BIN -u PREPAID_REDIS_BIN \
  "$python" -m pytest "$@"
echo "== $("$postgres/postgres" --version) and $("$redis" --version)"
env -u DATABASE_URL -u REDIS_URL PREPAID_POSTGRES_BIN="$postgres" PREPAID_REDIS_BIN="$redis" \
  "$python" -m pytest "$@"

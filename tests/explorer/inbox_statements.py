"""A pure model of the statements of the inbox, by their names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

from shared.access import service as access
from shared.events import store as events_store
from shared.inbox import store as inbox_store
from shared.inbox.model import EventState, Lane
from shared.ledger import store as ledger_store
from shared.organizations import store as organizations_store
from shared.outbound import store as outbound_store
from shared.payments import store as payments_store
from shared.recharge.attempts import store as attempt_store
from shared.recharge.suspensions import store as suspension_store
from tests.explorer import crediting_statements as crediting
from tests.explorer.inbox_tables import Event, InboxTables
from tests.explorer.modelled import Modelled, Result, no, nothing
from tests.explorer.recharge_tables import AMOUNT, ORGANIZATION, Tables
from tests.explorer.stepping import Port, Row
from tests.explorer.stripe_model import AMOUNT_MINOR

FENCE, REOPENING = "event fence", "reopening"


def _inbox(tables: Tables) -> InboxTables:
    return cast("InboxTables", tables)


def receive(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    after, rows = _inbox(tables), []
    for event_id in args[2]:
        if after.event(event_id) is None:
            after = after.with_event(Event(id=event_id))
            rows.append(_key(event_id))
    return after, tuple(rows)


def claim(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    rows_max, _, _, lane, lane_after = args
    due = [e for e in _inbox(tables).events if e.can_be_leased and e.lane is lane]
    leased = [
        replace(
            event, lease=port.process, lease_over=False, attempts=event.attempts + 1,
            lane=Lane.SUSPECT if event.lease is not None else Lane(lane_after),
            leases_lost=event.leases_lost + (event.lease is not None),
        )
        for event in due[:rows_max]
    ]  # fmt: skip
    return _all(tables, leased), tuple(event.row(types_paused=False) for event in leased)


def claim_for_replay(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    leased = [
        replace(
            event, state=EventState.RECEIVED, lease=port.process, lease_over=False, attempts=1,
            lane=Lane.ALONE, leases_lost=0,
        )
        for event in _inbox(tables).events
        if event.id in args[0]
    ]  # fmt: skip
    return _all(tables, leased), tuple(event.row() for event in leased)


def finish(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    token, ids, states, retry_in, waits, lanes = (args[n] for n in (0, 3, 4, 8, 11, 12))
    rows = []
    for place, event_id in enumerate(ids):
        event = _inbox(tables).event(event_id)
        if event is None or not _holds(port, event, token):
            continue
        if event.lease != port.process:
            tables = tables.with_flaw("only the holder of a lease writes")
        state = EventState(states[place])
        if state is EventState.RETRYING and retry_in[place] is None:
            tables = tables.with_flaw("every open event is due again")
        finished = replace(
            event, state=state, lease=None, lease_over=False,
            lane=Lane(lanes[place] or event.lane), waits_for=waits[place],
            leases_lost=0 if state is EventState.RETRYING else event.leases_lost,
            was_applied=event.was_applied or state is EventState.APPLIED,
        )  # fmt: skip
        tables = _inbox(tables).with_event(finished)
        rows.append(Row(account="", livemode=False, id=event_id, erased=None))
    return tables, tuple(rows)


def release(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    token, ids, lane = args[0], args[3], args[5]
    released = [
        replace(
            event, lease=None, lease_over=False, attempts=max(event.attempts - 1, 0),
            lane=Lane(lane), leases_lost=0,
        )
        for event in _inbox(tables).events
        if event.id in ids and _holds(port, event, token)
    ]  # fmt: skip
    return _all(tables, released), ()


def renew(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    held = [e for e in _inbox(tables).events if e.id in args[3] and _holds(port, e, args[0])]
    renewed = [replace(event, lease_over=False) for event in held]
    return _all(tables, renewed), tuple(_key(event.id) for event in held)


def keep(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return renew(port, tables, args)[0], ()


def reopen_waiting(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    if REOPENING in port.removed:
        return tables, ()
    reopened = [
        replace(
            event, state=EventState.RECEIVED, waits_for=None, attempts=0, lane=Lane.SHARED,
            leases_lost=0,
        )
        for event in _inbox(tables).events
        if event.state is EventState.IGNORED and event.waits_for in args[0]
    ]  # fmt: skip
    return _all(tables, reopened), ()


def credit(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return crediting.credit(port, tables, args, reopen_waiting)


def set_customers(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    if _inbox(tables).customer is None:
        tables = replace(_inbox(tables), customer=args[1][0])
    return tables, ()


def lock_payment(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    if not any(name == args[0] for name, _, _ in tables.bound):
        return tables, ()
    row = Row(
        organization_id=ORGANIZATION, amount_minor=AMOUNT_MINOR, currency="usd", credits=AMOUNT,
        reversal_as_of=None,
    )  # fmt: skip
    return tables, (row,)


def lock_reversals(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    row = Row(
        organization_id=ORGANIZATION, credits=AMOUNT, reversed=0 * AMOUNT, reversals=0,
        credited=True,
    )  # fmt: skip
    return tables, (row,)


def count_failure(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return tables, (Row(failures_in_row=1),)


def clock(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return tables, (Row(now=port.now()),)


def _holds(port: Port[Tables], event: Event, token: UUID) -> bool:
    return FENCE in port.removed or (event.lease == port.process and port.holds(token))


def _key(event_id: str) -> Row:
    return Row(account="", livemode=False, id=event_id)


def _all(tables: Tables, events: Iterable[Event]) -> InboxTables:
    after = _inbox(tables)
    for event in events:
        after = after.with_event(event)
    return after


def inbox_statements() -> Modelled:
    """Return the model of the statements that receiving and applying these events execute."""
    events = inbox_store.QUERIES
    return Modelled(
        {
            events: {
                "receive": receive, "claim": claim, "claim_for_replay": claim_for_replay,
                "finish": finish, "release": release, "renew": renew, "keep": keep,
                "reopen_waiting": reopen_waiting, "count_failure": count_failure,
                "lock_waiting": nothing,
            },
            events_store.QUERIES: {"clock": clock},
            payments_store.QUERIES: {
                "bound_payments": crediting.bound_payments,
                "claims": crediting.claims,
                "credit": credit,
                "lock_payment": lock_payment,
                "record_level": nothing,
            },
            ledger_store.QUERIES: {"post": crediting.post, "lock_payment": lock_reversals},
            organizations_store.QUERIES: {
                "lock_without_customer": nothing, "set_customers": set_customers,
            },
            attempt_store.QUERIES: {"wake": nothing},
            suspension_store.QUERIES: {"has_open_inquiry": no},
            outbound_store.QUERIES: {"announce": nothing},
            access.QUERIES: {"record": nothing},
        },
        tokens={events.claim: 1, events.claim_for_replay: 1},
    )  # fmt: skip

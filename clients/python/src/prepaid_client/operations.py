"""The operations of the billing API that this client calls, by their ids in `/openapi.json`."""

from __future__ import annotations

from dataclasses import dataclass

_BILLING = "/v1/billing/{organizationId}"
_ORGANIZATION = "/v1/organizations/{organizationId}"


@dataclass(frozen=True, slots=True)
class Operation:
    """An endpoint: its operation id, its method and its path. `reads`: it changes nothing."""

    name: str
    method: str
    path: str
    reads: bool = False

    @property
    def is_write(self) -> bool:
        """Whether the operation changes something, and takes an Idempotency-Key."""
        return self.method != "GET" and not self.reads


CREATE_ORGANIZATION = Operation("createOrganization", "POST", "/v1/organizations")
GET_ORGANIZATION = Operation("getOrganization", "GET", _ORGANIZATION)
CREATE_PRICE_BOOK = Operation("createPriceBook", "POST", "/v1/price-books")
ACTIVATE_PRICE_BOOK = Operation(
    "activatePriceBook", "POST", "/v1/price-books/{name}/versions/{version}/activate"
)
CREATE_CHECKOUT = Operation("createCheckout", "POST", "/v1/billing/checkout")
CREATE_PORTAL_SESSION = Operation("createPortalSession", "POST", "/v1/billing/portal")
COMPLETE_LOCAL = Operation("completeLocal", "POST", f"{_BILLING}/dev/complete-local")
TOP_UP = Operation("topUp", "POST", f"{_BILLING}/top-up")
CHANGE_BILLING = Operation("changeBilling", "PATCH", f"{_ORGANIZATION}/billing")
CREATE_TRANSACTION = Operation("createCreditTransaction", "POST", "/api/credit-transactions")
CREATE_USAGE = Operation("createUsage", "POST", f"{_BILLING}/usage")
QUOTE_USAGE = Operation("quoteUsage", "POST", f"{_BILLING}/usage/quote", reads=True)
CREATE_HOLD = Operation("createHold", "POST", f"{_BILLING}/holds")
GET_HOLD = Operation("getHold", "GET", f"{_BILLING}/holds/{{id}}")
CAPTURE_HOLD = Operation("captureHold", "POST", f"{_BILLING}/holds/{{id}}/capture")
EXTEND_HOLD = Operation("extendHold", "POST", f"{_BILLING}/holds/{{id}}/extend")
RELEASE_HOLD = Operation("releaseHold", "POST", f"{_BILLING}/holds/{{id}}/release")
GET_CREDITS = Operation("getCredits", "GET", f"{_BILLING}/credits")
LIST_HISTORY = Operation("listCreditHistory", "GET", f"{_BILLING}/credits/history")
EXPLAIN = Operation("explainTransaction", "GET", f"{_BILLING}/transactions/{{id}}/explain")
LIST_TRANSACTIONS = Operation(
    "listOrganizationTransactions", "GET", "/api/v1/org/{slug}/credits/transactions"
)
GET_STATEMENT = Operation("getStatement", "GET", f"{_BILLING}/statements/{{month}}")
GET_RECEIPT = Operation(
    "getTransactionReceipt", "GET", "/api/v1/org/{slug}/credits/transactions/{id}/receipt"
)
CREATE_GRANT = Operation("createGrant", "POST", f"{_BILLING}/grants")
CREATE_TRANSACTIONS = Operation(
    "createCreditTransactions", "POST", f"{_BILLING}/transactions/batch"
)
CREATE_USAGE_BATCH = Operation("createUsageBatch", "POST", f"{_BILLING}/usage/batch")
REPORT_USAGE = Operation("reportUsage", "GET", f"{_BILLING}/usage")
GET_USAGE_DIMENSIONS = Operation("getUsageDimensions", "GET", f"{_BILLING}/usage/dimensions")
CHANGE_USAGE_DIMENSIONS = Operation("changeUsageDimensions", "PUT", f"{_BILLING}/usage/dimensions")
CREATE_BUDGET = Operation("createBudget", "POST", f"{_BILLING}/budgets")
LIST_BUDGETS = Operation("listBudgets", "GET", f"{_BILLING}/budgets")
GET_BUDGET = Operation("getBudget", "GET", f"{_BILLING}/budgets/{{id}}")
CHANGE_BUDGET = Operation("changeBudget", "PATCH", f"{_BILLING}/budgets/{{id}}")
REMOVE_BUDGET = Operation("removeBudget", "DELETE", f"{_BILLING}/budgets/{{id}}")
GET_ALERTS = Operation("getAlerts", "GET", f"{_BILLING}/alerts")
PUT_ALERTS = Operation("putAlerts", "PUT", f"{_BILLING}/alerts")

OPERATIONS = tuple(value for value in globals().values() if isinstance(value, Operation))

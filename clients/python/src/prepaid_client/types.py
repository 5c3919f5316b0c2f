"""The bodies of requests and responses, by the names of their schemas.

Generated from the API's document by `make client-types`; do not edit. Amounts are exact: a number
without a fraction is an int, any other a Decimal.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

Number: TypeAlias = Decimal | int


class ActivationRequest(TypedDict):
    """From when the version is valid; without it, from the earliest moment."""

    activeFrom: NotRequired[str | None]


class ActivationResponse(TypedDict):
    """A version of a price book, and the moment from which it is valid."""

    name: str
    version: int
    activeFrom: str


class AlertsRequest(TypedDict):
    """All thresholds of a balance, in credits; none to end the alerts."""

    thresholds: list[Number]


class AlertsResponse(TypedDict):
    """The thresholds of a balance, in ascending order.

    `lowBalanceThreshold` is one threshold more: that of the billing settings, or of auto-recharge.
    """

    thresholds: list[Number]
    lowBalanceThreshold: Number | None


class AttemptResponse(TypedDict):
    """A charge attempt. `amount` is in credits, `amountMinor` in the currency's smallest unit.

    `reason` and `detail` explain a failure or cancellation.
    """

    id: str
    organizationId: str
    state: AttemptState
    trigger: Trigger
    amount: Number | None
    amountMinor: int | None
    currency: str | None
    paymentIntentId: str | None
    reason: str | None
    detail: str | None
    declineCode: str | None
    createdAt: str
    settledAt: str | None


AttemptState: TypeAlias = Literal[
    "armed",
    "canceled",
    "charging",
    "failed",
    "processing",
    "requires_action",
    "succeeded",
    "unknown",
]
"""The state of an attempt. All but the last three are live, and have a deadline."""


class BatchRequest(TypedDict):
    """Up to 1,000 transactions of one organization."""

    transactions: list[TransactionRequest]


class BatchResponse(TypedDict):
    """One result for each transaction, in the order of the request."""

    results: list[BatchResult]


class BatchResult(TypedDict):
    """The result of one transaction of a batch."""

    status: PostingStatus
    transaction: TransactionResponse | None
    error: dict[str, Any] | None


class BillingChange(TypedDict):
    """The settings to change. An absent field keeps its value; null removes it.

    An amount replaces a target, and a target an amount. `autoRechargePauseSeconds` is the minimum
    time between two charges. `lowBalanceThresholdDecimillicents` is the balance below which
    `credits.low` is sent; null means the threshold of auto-recharge while it is on. `consentedBy`
    is the person who agreed to off-session charges, for the audit log. It is required with
    `autoRechargeEnabled: true`; a later change without it keeps the recorded consent.
    """

    billingEmail: NotRequired[str | None]
    autoRechargeEnabled: NotRequired[bool]
    autoRechargeThresholdDecimillicents: NotRequired[int | None]
    autoRechargeAmountDecimillicents: NotRequired[int | None]
    autoRechargeTargetDecimillicents: NotRequired[int | None]
    autoRechargeMonthlyCapDecimillicents: NotRequired[int | None]
    autoRechargeMonthlyCountCap: NotRequired[int | None]
    autoRechargePauseSeconds: NotRequired[int]
    overdraftLimitDecimillicents: NotRequired[int]
    lowBalanceThresholdDecimillicents: NotRequired[int | None]
    consentedBy: NotRequired[str | None]


class BillingResponse(TypedDict):
    """Billing settings. `creditsBalance` is the whole balance, `reservedCredits` the held part."""

    organizationId: str
    billingEmail: str | None
    stripeCustomerId: str | None
    stripeSubscriptionId: str | None
    stripePaymentMethodId: str | None
    creditsBalanceDecimillicents: int
    reservedCreditsDecimillicents: int
    overdraftLimitDecimillicents: int
    lowBalanceThresholdDecimillicents: int | None
    autoRechargeEnabled: bool
    autoRechargeState: RechargeState
    autoRechargeStateReason: SuspensionReason | None
    autoRechargeThresholdDecimillicents: int | None
    autoRechargeAmountDecimillicents: int | None
    autoRechargeTargetDecimillicents: int | None
    autoRechargeMonthlyCapDecimillicents: int | None
    autoRechargeMonthlyCountCap: int | None
    autoRechargePauseSeconds: int
    isSubscribed: bool
    subscriptionStatus: str
    subscriptionPlan: str | None
    subscriptionStartedAt: str | None
    subscriptionEndsAt: str | None
    subscriptionCurrentPeriodEnd: str | None


BudgetAction: TypeAlias = Literal["refuse", "tell"]
"""What happens at the limit: debits and holds are refused, or it is only announced."""


class BudgetChangeRequest(TypedDict):
    """What to change. Subject and window stay: remove the budget and create another."""

    limit: NotRequired[Number]
    action: NotRequired[BudgetAction]
    thresholds: NotRequired[list[int]]


class BudgetPage(TypedDict):
    """A page of budgets, newest first."""

    data: list[BudgetResponse]
    nextCursor: str | None


class BudgetRequest(TypedDict):
    """A limit in credits on one subject, or on each subject by itself (`*`)."""

    subjectKind: SubjectKind
    subject: str
    window: WindowKind
    limit: Number
    action: NotRequired[BudgetAction]
    thresholds: NotRequired[list[int]]


class BudgetResponse(TypedDict):
    """A budget in its current window, which ends at `resetsAt`.

    `used`, `held` and `left` are those of the subject that the budget names, and null for a budget
    of each subject. `subjects` are the up to 100 subjects that used or hold most. `spent`: a
    subject has reached the limit.
    """

    id: str
    organizationId: str
    subjectKind: SubjectKind
    subject: str
    window: WindowKind
    limit: Number
    action: BudgetAction
    thresholds: list[int]
    used: Number | None
    held: Number | None
    left: Number | None
    resetsAt: str | None
    spent: bool
    subjects: list[SubjectResponse]
    createdAt: str
    updatedAt: str


class CaptureRequest(TypedDict):
    """The amount used, or the `measures` to price, and what a debit has besides.

    Without `model` and `meter`, those of the hold are used. With `final: false` the hold stays open
    for more captures. `allowExceed` allows more than is left of the hold if the balance covers the
    rest, `onInsufficient: "overdraft"` in any case.
    """

    transactionId: NotRequired[str | None]
    note: NotRequired[str | None]
    category: NotRequired[str | None]
    quantity: NotRequired[Number | None]
    userId: NotRequired[str | None]
    metadata: NotRequired[dict[str, Any] | None]
    tags: NotRequired[list[str] | None]
    onInsufficient: NotRequired[OnInsufficient]
    effectiveOn: NotRequired[str | None]
    amount: NotRequired[Number | None]
    measures: NotRequired[dict[str, Number] | None]
    model: NotRequired[str | None]
    meter: NotRequired[str | None]
    final: NotRequired[bool]
    allowExceed: NotRequired[bool]


class CaptureResponse(TypedDict):
    """A hold after a capture, and the ledger row that used its credits.

    `captureTransactionId` is null for a capture of zero, which has no row.
    """

    id: str
    organizationId: str
    transactionId: str
    status: HoldStatus
    amount: Number
    capturedAmount: Number
    remaining: Number
    note: str | None
    category: str | None
    userId: str | None
    metadata: dict[str, Any]
    tags: list[str]
    price: PriceResponse | None
    expiresAt: str
    createdAt: str
    closedAt: str | None
    captureTransactionId: str | None
    captureAmount: Number
    balanceAfter: Number


class CategoryUsageResponse(TypedDict):
    """The usage of a category; null: usage without one.

    `isRest`: the sum of all categories beyond the first 1,000.
    """

    category: str | None
    amount: Number
    transactions: int
    isRest: bool


class CheckoutRequest(TypedDict):
    """The credits to buy, and where the browser returns to. The server sets the price."""

    organizationId: NotRequired[str | None]
    amount: Number
    successUrl: str
    cancelUrl: str


class CompleteRequest(TypedDict):
    """The checkout to pay; the newest open one by default."""

    checkoutId: NotRequired[str | None]


class CompletedPurchaseResponse(TypedDict):
    """The paid purchase, and the ledger row that credited it."""

    purchaseId: str
    checkoutId: str | None
    paymentIntentId: str
    transactionId: str
    amount: Number
    balanceAfter: Number


class CreditSourceResponse(TypedDict):
    """A part of a debit and the grant that paid for it. Without a grant, the part is debt."""

    amount: Number
    grantId: str | None
    grantType: str | None
    paymentIntentId: str | None
    chargeId: str | None
    receiptUrl: str | None


class CreditsResponse(TypedDict):
    """A balance. `availableCredits` is what a debit may use now. With `at`, only balances."""

    organizationId: str
    creditsBalanceDecimillicents: int
    reservedCreditsDecimillicents: int | None
    availableCreditsDecimillicents: int | None
    overdraftLimitDecimillicents: int | None
    balance: Number
    at: str


Dimension: TypeAlias = Literal["category", "key", "model", "tag", "user"]
"""What usage is totalled by. The names are stored and shown to clients."""


class DimensionsRequest(TypedDict):
    """The dimensions to total usage by; an empty list turns all off."""

    dimensions: list[Dimension]


class DimensionsResponse(TypedDict):
    """The dimensions that are on. Their totals are complete from `totalsFrom` on."""

    dimensions: list[Dimension]
    totalsFrom: str | None


class ErrorResponse(TypedDict):
    """The error envelope. `errors` is set on a 422; the other optional fields on a 402.

    Insufficient credits: `required` is the requested amount, `available` is what a debit may use
    now (the balance minus held credits plus the overdraft limit). `rechargeInProgress`: retry after
    `Retry-After` seconds. Failed payment: `nextAction`, and `attempt` if a charge was attempted.
    A budget: `available` is what is left of it; `limit`, `used` and `held` are those of its subject
    in the current window, which ends at `resetsAt`. Text repeated from the request is truncated and
    then ends with ….
    """

    code: int
    type: str
    detail: str
    errors: NotRequired[list[FieldErrorResponse]]
    required: NotRequired[Number]
    available: NotRequired[Number]
    balance: NotRequired[Number]
    held: NotRequired[Number]
    rechargeInProgress: NotRequired[bool]
    budgetId: NotRequired[str]
    subjectKind: NotRequired[SubjectKind]
    subject: NotRequired[str]
    window: NotRequired[WindowKind]
    limit: NotRequired[Number]
    used: NotRequired[Number]
    resetsAt: NotRequired[str | None]
    nextAction: NotRequired[NextAction]
    attempt: NotRequired[AttemptResponse]


class ExplanationResponse(TypedDict):
    """A ledger row and its funding. The sources add up to the amount of a debit.

    `pricing` says how the amount of priced usage arose.
    """

    id: str
    organizationId: str
    changeSequence: int
    type: TransactionType
    amount: Number
    balanceAfter: Number
    createdAt: str
    sources: list[CreditSourceResponse]
    uses: list[GrantUseResponse]
    pricing: PriceResponse | None
    nextCursor: str | None


class ExtendRequest(TypedDict):
    """The seconds from now, at most 30 days, until the hold expires."""

    expiresInSeconds: int


class FieldErrorResponse(TypedDict):
    """A rejected field: its location, the reason, and a machine-readable type."""

    loc: list[str | int]
    msg: str
    type: str


class GrantRequest(TypedDict):
    """Credits to grant. A lower priority burns first, then the earlier expiry."""

    amount: Number
    promotional: NotRequired[bool]
    priority: NotRequired[int]
    expiresAt: NotRequired[str | None]
    note: NotRequired[str | None]
    transactionId: NotRequired[str | None]
    metadata: NotRequired[dict[str, Any] | None]


class GrantResponse(TypedDict):
    """A grant. `endedBy` is `expiration` or `void` if that took the remaining credits."""

    id: str
    organizationId: str
    transactionId: str
    amount: Number
    remaining: Number
    priority: int
    promotional: bool
    expiresAt: str | None
    endedAt: str | None
    endedBy: str | None
    paymentIntentId: str | None
    createdAt: str


class GrantUseResponse(TypedDict):
    """A part of a grant and the debit that it paid for."""

    amount: Number
    transactionId: str
    changeSequence: int
    type: TransactionType
    createdAt: str


GroupBy: TypeAlias = Literal["category", "day", "key", "model", "tag", "user"]
"""What a report is grouped by: the dimensions, and days in UTC."""


class HistoryPage(TypedDict):
    """A page, newest first. `prevCursor` leads to newer rows; `total` counts those of the period.

    Where rows are filtered by value, there is neither, and a page may be shorter than its limit, or
    empty, while `nextCursor` leads on.
    """

    data: list[HistoryRow]
    nextCursor: str | None
    prevCursor: str | None
    total: int | None


class HistoryRow(TypedDict):
    """A ledger row. `amount` and `balanceAfter` are in credits."""

    id: str
    organizationId: str
    amount: Number
    entryType: str
    reason: str | None
    referenceId: str
    balanceAfter: Number
    metadata: dict[str, Any]
    createdAt: str


class HoldRequest(TypedDict):
    """Credits to reserve, for 15 minutes by default and at most 30 days.

    An `amount`, or an estimate: a `model` or a `meter` with `measures`, at today's price. `note`,
    `category`, `userId`, `metadata` and `tags` are the defaults of its captures.
    """

    amount: NotRequired[Number | None]
    model: NotRequired[str | None]
    meter: NotRequired[str | None]
    measures: NotRequired[dict[str, Number] | None]
    expiresInSeconds: NotRequired[int]
    transactionId: NotRequired[str | None]
    note: NotRequired[str | None]
    category: NotRequired[str | None]
    userId: NotRequired[str | None]
    metadata: NotRequired[dict[str, Any] | None]
    tags: NotRequired[list[str] | None]


class HoldResponse(TypedDict):
    """A hold. `remaining` is what it still reserves, `price` that of its estimate."""

    id: str
    organizationId: str
    transactionId: str
    status: HoldStatus
    amount: Number
    capturedAmount: Number
    remaining: Number
    note: str | None
    category: str | None
    userId: str | None
    metadata: dict[str, Any]
    tags: list[str]
    price: PriceResponse | None
    expiresAt: str
    createdAt: str
    closedAt: str | None


HoldStatus: TypeAlias = Literal["active", "captured", "expired", "released"]
"""The state of a hold. Every state but `active` is final."""


class NextAction(TypedDict):
    """What the customer can do about a payment that failed, and where."""

    type: str
    url: str | None


OnInsufficient: TypeAlias = Literal["overdraft", "refuse"]
"""What to do with a debit that the available credits do not cover."""


class OrgCreditTransaction(TypedDict):
    """A transaction. Model, tokens and cost are those of its pricing, else of its metadata.

    `inference_cost_usd` of priced usage is before markup and discount; null in other currencies.
    """

    id: str
    transaction_type: OrgCreditType
    amount: Number
    description: str | None
    created_at: str
    has_receipt: bool
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    inference_cost_usd: Number | None


OrgCreditType: TypeAlias = Literal[
    "admin_adjustment",
    "auto_refill",
    "inference",
    "purchase",
    "refund",
    "signup_allocation",
    "span_ingestion",
    "storage",
    "usage",
    "web_search",
]
"""The types of this shape: those of the table of type names, and the usage categories."""


class OrganizationReference(TypedDict):
    """The organization of a transaction, by its id or slug; other fields are ignored."""

    id: NotRequired[str | None]
    slug: NotRequired[str | None]
    uuid: NotRequired[str | None]


class OrganizationRequest(TypedDict):
    """A new customer. `currency` is a lower-case ISO 4217 code and cannot be changed later."""

    slug: str
    name: str
    currency: NotRequired[str]
    email: NotRequired[str | None]
    id: NotRequired[str | None]


class OrganizationResponse(TypedDict):
    """A customer."""

    id: str
    slug: str
    name: str
    currency: str
    email: str | None
    stripeCustomerId: str | None
    createdAt: str
    updatedAt: str


class PortalRequest(TypedDict):
    """The organization, and where the browser returns to."""

    organizationId: NotRequired[str | None]
    returnUrl: str


class PositionResponse(TypedDict):
    """A balance after a row; before the first row, the sequence is 0 and there is no hash."""

    balance: Number
    changeSequence: int
    hash: str | None


class PostedUsageResponse(TypedDict):
    """Posted usage: its ledger row, its price, and the hold that it was captured from.

    `transaction` is null where the usage costs nothing: the ledger has no rows of zero.
    """

    transaction: TransactionResponse | None
    price: PriceResponse
    hold: HoldResponse | None


PostingStatus: TypeAlias = Literal[
    "budget_exceeded",
    "closed",
    "conflict",
    "exceeds_hold",
    "hold_closed",
    "insufficient",
    "invalid",
    "nothing_left",
    "posted",
    "replayed",
    "unknown_grant",
    "unknown_hold",
    "unknown_organization",
]
"""The outcome of a posting. Only `posted` changed the ledger."""


class PriceBookRequest(TypedDict):
    """A price book, in the form of a file: prices are text, such as `2.50 / 1M`."""

    name: str
    note: NotRequired[str | None]
    markup: NotRequired[str | None]
    prompt: NotRequired[list[str]]
    within: NotRequired[dict[str, list[str]]]
    prices: list[PriceForm]


class PriceBookVersion(TypedDict):
    """A version of a price book. `activeFrom`: each moment from which it is or was valid."""

    name: str
    version: int
    prices: int
    createdAt: str
    createdBy: str
    activeFrom: list[str]


class PriceForm(TypedDict):
    """The price of models or of meters, for each measure."""

    models: NotRequired[list[str]]
    meters: NotRequired[list[str]]
    minimum: NotRequired[str | None]
    markup: NotRequired[str | None]
    hours: NotRequired[list[str]]
    measures: dict[str, str | RateForm]
    within: NotRequired[dict[str, list[str]] | None]


class PriceLineResponse(TypedDict):
    """The amount of a measure, or of one tier of it, before markup and discount."""

    measure: str
    quantity: Number
    unitPrice: Number
    per: int
    amount: Number


class PriceResponse(TypedDict):
    """The price of usage in credits, the version of the price book, and how it arose.

    `markup` and `discount` are percentages. `total` is rounded once, half-up to 9 decimals.
    """

    book: str
    version: int
    model: str | None
    meter: str | None
    measures: dict[str, Number]
    lines: list[PriceLineResponse]
    markup: Number
    discount: Number
    minimum: Number | None
    total: Number


class QuoteItem(TypedDict):
    """Usage of a `model` or a `meter`, by measure."""

    measures: dict[str, Number]
    model: NotRequired[str | None]
    meter: NotRequired[str | None]


class QuoteRequest(TypedDict):
    """Usage of a `model` or a `meter`, or up to 1,000 `items` of it."""

    measures: NotRequired[dict[str, Number] | None]
    model: NotRequired[str | None]
    meter: NotRequired[str | None]
    items: NotRequired[list[QuoteItem] | None]


class QuoteResponse(TypedDict):
    """The price of each item, in their order, and their sum."""

    total: Number
    prices: list[PriceResponse]


class RateForm(TypedDict):
    """A price in tiers, selected `by` the quantity of the measure or the length of the prompt."""

    tiers: list[TierForm]
    by: NotRequired[Literal["prompt", "quantity"]]


class ReceiptResponse(TypedDict):
    """The address of Stripe's hosted receipt or invoice."""

    url: str


RechargeState: TypeAlias = Literal["active", "off", "paused_requires_action", "suspended"]
"""Whether an organization's auto-recharge may charge."""


class RemovedBudgetResponse(TypedDict):
    """A removed budget."""

    id: str
    removed: bool


class StatementResponse(TypedDict):
    """A statement. Opening + purchased + … + voided = closing; what is taken is negative.

    Rows belong to the month in which they were created, in UTC. A `complete` statement never
    changes again.
    """

    organizationId: str
    month: str
    periodStart: str
    periodEnd: str
    complete: bool
    opening: PositionResponse
    purchased: Number
    recharged: Number
    granted: Number
    used: Number
    expired: Number
    refunded: Number
    disputed: Number
    adjusted: Number
    voided: Number
    closing: PositionResponse
    transactions: int
    usedByCategory: list[CategoryUsageResponse]


class StripePageResponse(TypedDict):
    """A page hosted by Stripe. Redirect the browser to `url`."""

    id: str
    url: str


SubjectKind: TypeAlias = Literal["category", "key", "tag", "user"]
"""The dimension of usage that a budget limits."""


class SubjectResponse(TypedDict):
    """What a subject has used in the current window, holds, and may still use."""

    subject: str
    used: Number
    held: Number
    left: Number


SuspensionReason: TypeAlias = Literal[
    "authentication_expired",
    "cap",
    "charge_refused",
    "customer_deleted",
    "declines",
    "dispute",
    "fraud_warning",
    "inquiry",
    "no_card",
    "operator",
    "refunded",
]
"""Why auto-recharge is suspended; the reason determines what ends it."""


class TierForm(TypedDict):
    """A tier: its price above `over`, up to and including `to`; without `to`, without an end."""

    price: str
    over: NotRequired[int]
    to: NotRequired[int | None]


class TopUpRequest(TypedDict):
    """The credits to buy with the payment method on file."""

    amount: Number


class TransactionOrganization(TypedDict):
    """The organization of a transaction."""

    id: str
    uuid: str
    name: str
    slug: str
    stripeCustomerId: str | None
    createdOn: str
    updatedOn: str


class TransactionRequest(TypedDict):
    """Credits to add (a positive amount) or to use (a negative one).

    `id`, `uuid`, `changeSequence`, `createdOn` and `updatedOn` are set by the server. A client may
    send them; they are ignored.
    """

    amount: Number
    organizationId: NotRequired[str | None]
    organization: NotRequired[OrganizationReference | None]
    transactionId: NotRequired[str | None]
    note: NotRequired[str | None]
    userId: NotRequired[str | None]
    user: NotRequired[str | None]
    modelCosts: NotRequired[list[str] | None]
    type: NotRequired[TransactionType | None]
    category: NotRequired[str | None]
    quantity: NotRequired[Number | None]
    metadata: NotRequired[dict[str, Any] | None]
    tags: NotRequired[list[str] | None]
    onInsufficient: NotRequired[OnInsufficient]
    effectiveOn: NotRequired[str | None]
    id: NotRequired[str | None]
    uuid: NotRequired[str | None]
    changeSequence: NotRequired[int | None]
    createdOn: NotRequired[str | None]
    updatedOn: NotRequired[str | None]


class TransactionResponse(TypedDict):
    """A ledger row. `changeSequence` numbers an organization's rows from 1, without gaps."""

    id: str
    uuid: str
    organizationId: str
    organization: TransactionOrganization
    transactionId: str
    changeSequence: int
    amount: Number
    balanceAfter: Number
    type: TransactionType
    note: str | None
    category: str | None
    quantity: Number | None
    userId: str | None
    user: str | None
    modelCosts: list[str]
    metadata: dict[str, Any]
    tags: list[str]
    createdOn: str
    updatedOn: str
    effectiveOn: str


TransactionType: TypeAlias = Literal[
    "adjustment",
    "bonus",
    "dispute",
    "dispute_reversal",
    "expiration",
    "grant",
    "hold_capture",
    "purchase",
    "recharge",
    "refund",
    "usage",
    "void",
]
"""Every kind of transfer. The names are stored and shown to clients."""


Trigger: TypeAlias = Literal["schedule", "threshold", "top_up"]
"""The cause of an attempt."""


class UsageBatchRequest(TypedDict):
    """Up to 1,000 items of usage of one organization."""

    usage: list[UsageRequest]


class UsageBatchResponse(TypedDict):
    """One result for each item, in the order of the request."""

    results: list[UsageBatchResult]


class UsageBatchResult(TypedDict):
    """The result of one item of a batch.

    `transaction` is null for one that is refused, and for one that costs nothing.
    """

    status: PostingStatus
    transaction: TransactionResponse | None
    price: PriceResponse | None
    error: dict[str, Any] | None


class UsageGroupResponse(TypedDict):
    """A group: the day and the values that it is grouped by; null: usage without one.

    `isRest`: usage beyond the first 1,000 combinations of values in an hour.
    """

    quantity: Number
    cost: Number
    transactions: int
    day: str | None
    model: str | None
    user: str | None
    category: str | None
    key: str | None
    tag: str | None
    isRest: bool


class UsageReportResponse(TypedDict):
    """A report of whole hours. `source`: totals, or rows where a dimension is not totalled."""

    organizationId: str
    periodStart: str
    periodEnd: str
    groupBy: list[GroupBy]
    source: str
    total: UsageTotalResponse
    data: list[UsageGroupResponse]
    truncated: bool


class UsageRequest(TypedDict):
    """Usage of a `model` or a `meter`, by measure; the price book makes its amount.

    `transactionId` is your own id and makes the request idempotent. With `holdId` the usage is
    captured from that hold, and what exceeds it is taken from the balance; `final: false` leaves
    the hold open, and without `model` and `meter` the hold's are used.
    """

    transactionId: NotRequired[str | None]
    note: NotRequired[str | None]
    category: NotRequired[str | None]
    quantity: NotRequired[Number | None]
    userId: NotRequired[str | None]
    metadata: NotRequired[dict[str, Any] | None]
    tags: NotRequired[list[str] | None]
    onInsufficient: NotRequired[OnInsufficient]
    effectiveOn: NotRequired[str | None]
    measures: dict[str, Number]
    model: NotRequired[str | None]
    meter: NotRequired[str | None]
    holdId: NotRequired[str | None]
    final: NotRequired[bool]


class UsageTotalResponse(TypedDict):
    """A sum of usage. `cost` is in credits."""

    quantity: Number
    cost: Number
    transactions: int


WindowKind: TypeAlias = Literal["day", "hour", "month", "total"]
"""The time after which a budget resets, in UTC; `total` never does."""

"""The names of the models of genai-prices in a book."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from genai_prices import types

from shared.pricing.matching import WILDCARD
from shared.pricing.usage_rules import NAME, NAME_LENGTH_MAX
from shared.pricing.validation import PATTERNS_MAX

# Whose models are also named without their provider; the first that has a name gets it.
MAKERS = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "x-ai",
    "deepseek",
    "cohere",
    "meta",
    "moonshotai",
    "zai",
    "minimax",
    "perplexity",
    "voyageai",
    "elevenlabs",
)
_Model = tuple[str, int]  # the provider, and the place of the model among its models


class Names:
    """Gives each model its names, so that no two of them have one in common.

    `skipped` lists, as (name, reason), the names of the package that no pattern can express, and
    those that another model has.
    """

    def __init__(self, providers: Sequence[types.Provider], *, first: Sequence[str]) -> None:
        self.skipped: list[tuple[str, str]] = []
        self._owners: dict[str, _Model] = {}
        self._patterns: dict[_Model, list[str]] = {}
        for provider in providers:
            for number, model in enumerate(provider.models):
                self._claim(f"{provider.id}/{model.id}", (provider.id, number))
        by_id = {provider.id: provider for provider in providers}
        makers = [by_id[name] for name in (first or MAKERS) if name in by_id]
        for provider in providers:
            aliases = [*_aliases(provider)]
            for alias, number in aliases:
                self._claim(f"{provider.id}/{alias}", (provider.id, number))
            self._report_clauses(provider)
        for provider in makers:
            for number, model in enumerate(provider.models):
                self._claim(model.id, (provider.id, number))
            for alias, number in _aliases(provider):
                self._claim(alias, (provider.id, number))
        self._numbers = {
            (provider.id, model.id): number
            for provider in providers
            for number, model in enumerate(provider.models)
        }

    def patterns(
        self, provider: types.Provider, model: types.ModelInfo, context: Mapping[str, str]
    ) -> list[str]:
        """Return the names of a model, or of a variant of its prices."""
        owner = provider.id, self._numbers[provider.id, model.id]
        suffix = "".join(f"?{key}={value}" for key, value in context.items())
        names = self._patterns.get(owner, [])
        return [f"{name}{suffix}" for name in names if not (suffix and WILDCARD in name)]

    def _claim(self, pattern: str, owner: _Model) -> None:
        name = f"{owner[0]}/… {pattern}"
        literal = pattern.replace(WILDCARD, "")
        if not NAME.fullmatch(literal) or len(pattern) > NAME_LENGTH_MAX:
            self.skipped.append((name, "is no name that a book takes"))
            return
        taken = self._owners.setdefault(pattern.lower(), owner)
        mine = self._patterns.setdefault(owner, [])
        if taken != owner:
            self.skipped.append((pattern, f"names a model of {taken[0]} already, not {owner[0]}'s"))
        elif pattern.lower() not in map(str.lower, mine) and len(mine) < PATTERNS_MAX:
            mine.append(pattern)

    def _report_clauses(self, provider: types.Provider) -> None:
        for model in provider.models:
            for clause in _flat(model.match):
                if not isinstance(clause, types.ClauseEquals | types.ClauseStartsWith):
                    self.skipped.append(
                        (
                            f"{provider.id}/{model.id}",
                            f"is not imported under the names of {clause}",
                        )
                    )


def _aliases(provider: types.Provider) -> Iterator[tuple[str, int]]:
    """Yield each name, or beginning of names, that the package resolves to a model by.

    Of several models that one matches, the package takes the first.
    """
    for model in provider.models:
        for clause in _flat(model.match):
            if isinstance(clause, types.ClauseEquals):
                literal, pattern = clause.equals, clause.equals
            elif isinstance(clause, types.ClauseStartsWith):
                literal, pattern = clause.starts_with, clause.starts_with + WILDCARD
            else:
                continue
            number = next(n for n, other in enumerate(provider.models) if other.is_match(literal))
            yield pattern, number


def _flat(clause: types.MatchLogic) -> Iterator[types.MatchLogic]:
    """Yield the alternatives of a clause."""
    if isinstance(clause, types.ClauseOr):
        for alternative in clause.or_:
            yield from _flat(alternative)
    else:
        yield clause

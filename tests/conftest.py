pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.product",
    "tests.fixtures.api",
    "tests.fixtures.receiver",
    "tests.fixtures.recharging",
    "tests.fixtures.stripe_answers",
]

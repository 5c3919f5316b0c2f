"""A Stripe simulator: a separate process that answers Stripe's API for development and tests.

It is not Stripe, moves no money and says so on every page and answer. Start it with
`SIMULATOR_WEBHOOK_SECRETS=whsec_… python -m sandbox.stripe --port 0 --state FILE --webhook-url URL`
or from Python with `sandbox.stripe.process.SimulatorProcess`. What tests can make it do is listed
in `sandbox.stripe.control`.
"""

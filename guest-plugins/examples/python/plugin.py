"""Loyalty: credits a customer with a share of what a completed order was worth, up to a limit per customer."""

import json
import traceback

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import log, state
from wit_world.imports.types import (
    Action_Credit,
    Credit,
    Event,
    Failure_Hold,
    Failure_Refuse,
    Money,
    Proposal,
)

# Operations remembered per customer. For one that is forgotten, the host's ledger still gives one effect per operation key.
OPERATIONS_MAX = 32


def process(event: Event, config_json: str) -> list[Proposal]:
    config = parse_config(config_json)
    if event.status != "completed":
        raise refuse("only completed orders earn")
    if event.amount is None:
        raise hold("the event has no amount")
    currency = event.amount.currency
    if currency != config["currency"]:
        raise refuse(f"orders in {currency} earn nothing")
    account = required_attribute(event, "customer")
    operation = attribute(event, "operation") or event.subject or event.id

    state_key = f"customer/{account}"
    customer = read_json(state_key) or {"credited": 0, "operations": []}

    # The same operation has the same content each time, whatever the limit has left by now.
    credit = dict(customer["operations"]).get(operation)
    if credit is None:
        left = config["customer_max_minor_units"] - customer["credited"]
        credit = min(event.amount.minor_units * config["rate_bps"] // 10_000, left)
        if credit < 1:
            raise refuse("nothing is left to earn")
        log.write(log.Level.INFO, f"{operation} earns {credit} of {left} left")
        customer["credited"] += credit
        customer["operations"] = [*customer["operations"], [operation, credit]][-OPERATIONS_MAX:]
        write_json(state_key, customer)
    action = Action_Credit(Credit(account, Money(credit, currency), "loyalty"))
    return [Proposal(f"loyalty:{operation}", action)]


def parse_config(text: str) -> dict:
    config = json.loads(text)
    if type(config.get("rate_bps")) is not int or not 1 <= config["rate_bps"] <= 10_000:
        raise hold("config: `rate_bps` must be 1 to 10000")
    if type(config.get("customer_max_minor_units")) is not int:
        raise hold("config: `customer_max_minor_units` must be an integer")
    if type(config.get("currency")) is not str:
        raise hold("config: `currency` must be a text")
    return config


def attribute(event: Event, name: str) -> str | None:
    return next((value for known, value in event.attributes if known == name), None)


def required_attribute(event: Event, name: str) -> str:
    value = attribute(event, name)
    if not value:
        raise hold(f"the event has no attribute `{name}`; the profile of source `{event.source}` must read it")
    return value


# State is bytes; what is kept here is JSON in UTF-8.
def read_json(key: str):
    data = state.get(key)
    return None if data is None else json.loads(data)


def write_json(key: str, value) -> None:
    state.set(key, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


# The answers beside proposals (Failure_Retry is the third). What else is raised is a fault of the plugin.
def refuse(message: str) -> Err:
    return Err(Failure_Refuse(message))


def hold(message: str) -> Err:
    return Err(Failure_Hold(message))


class Handler(exports.Handler):
    def process(self, event: Event, config: str) -> list[Proposal]:
        try:
            return process(event, config)
        except Err:
            raise
        except Exception as error:
            # A fault ends the run; what it was is logged first, or nobody would know.
            log.write(log.Level.ERROR, described(error))
            raise


def described(error: Exception) -> str:
    """Type, message and frames, the innermost first. `traceback.format_exc` would look for source files, and a plugin has none."""
    frames = [
        f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{line})"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    return f"{type(error).__name__}: {error}, in " + ", ".join(reversed(frames))

"""Synthetic transactions, for when there is no feed."""

import json
import random
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from outbox_records import Draft, Message, utc

SEEDED_START = datetime(2026, 1, 1, tzinfo=UTC)  # the timestamps of a seeded stream count from here
CATCH_UP_SECONDS = 60.0  # after a longer pause the missed moments are skipped instead of sent in one burst

# (name, currency, weight, lowest and highest amount in cents): every category (< 1,000, >= 1,000, >= 10,000) is hit.
MERCHANTS = (
    ("Corner Coffee", "USD", 32, 275, 1_850),
    ("Fresh Fields Market", "USD", 18, 640, 24_000),
    ("Café de l'Étoile", "EUR", 12, 310, 6_400),
    ("Northern Power & Light", "CAD", 8, 3_800, 41_000),
    ("Skyline Airways", "USD", 7, 8_900, 450_000),
    ("Alpine Electronics Outlet", "CHF", 5, 2_900, 390_000),
    ("Harbour Jewellers", "GBP", 4, 12_000, 2_800_000),
    ("Prime Auto Gallery", "USD", 3, 450_000, 9_500_000),
    ("Meridian Wealth Transfers", "EUR", 3, 1_000_000, 75_000_000),
    ("Summit Property Partners", "USD", 1, 2_500_000, 120_000_000),
)


class SyntheticSource:
    """Transactions at random moments; the same `seed` (None: a new stream) gives the same transactions and gaps between them."""

    path = None

    def __init__(self, rate: float, seed: int | None, now: float) -> None:
        self._rate = rate
        self._seeded = seed is not None
        self._elapsed = 0.0
        # Two generators, so that the rate (which draws gaps) does not change the contents. Nothing here guards a secret.
        self._contents = random.Random(f"{seed} contents" if self._seeded else None)
        self._gaps = random.Random(f"{seed} gaps" if self._seeded else None)
        self._arrival = now + self._gap()

    def next_moment(self, now: float) -> float:
        self._arrival = max(self._arrival, now - CATCH_UP_SECONDS)
        return self._arrival

    def draw(self, now: float, limit: int) -> Draft:
        draft = Draft()
        while self._arrival <= now and len(draft.messages) < limit:
            draft.messages.append(self._transaction())
            self._arrival += self._gap()
        return draft

    def _gap(self) -> float:
        """Seconds until the next transaction: exponential, of mean 1 / rate."""
        gap = self._gaps.expovariate(self._rate)
        self._elapsed += gap
        return gap

    def _transaction(self) -> Message:
        """The next transaction: id (UUID4), user, amount (two decimals, never a float), currency, UTC timestamp, merchant."""
        contents = self._contents
        name, currency, _, low, high = contents.choices(MERCHANTS, weights=[each[2] for each in MERCHANTS])[0]
        cents = min(contents.randint(low, high), contents.randint(low, high))  # small purchases are commoner than large ones
        cents = cents // 100 * 100 if contents.random() < 0.15 else cents  # and some prices are round
        transaction_id = str(uuid.UUID(int=contents.getrandbits(128), version=4))
        moment = SEEDED_START + timedelta(seconds=self._elapsed) if self._seeded else datetime.now(UTC)
        user, amount, timestamp = f"user-{contents.randint(1, 5_000):05d}", str(Decimal(cents).scaleb(-2)), utc(moment)
        # json.dumps does not support Decimal: the amount is written as its own text, which is a JSON number.
        body = f'{{"transaction_id":"{transaction_id}","user_id":"{user}","amount":{amount},"currency":"{currency}",'
        body += f'"timestamp":"{timestamp}","merchant":{json.dumps(name, ensure_ascii=False)}}}'
        return Message(transaction_id, body, amount, timestamp)

"""How is it said which resources a run is to hold?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merlin_es.cli.printing import as_pairs

if TYPE_CHECKING:
    from projections.lease_wish import LeaseWish


def lease_wish(
    keys: tuple[str, ...], label: str | None, owner: str, *, count: int = 1, priority: int = 0
) -> LeaseWish | None:
    """Give what `--lease` and `--lease-any` wish for, None when neither does; raises Usage."""
    from merlin_es.errors import Usage
    from merlin_es.resources import check_keys
    from projections.lease_state import Pool
    from projections.lease_wish import LeaseWish

    if label is None:
        return LeaseWish(owner, check_keys(keys), None, priority) if keys else None
    if keys:
        raise Usage("a run holds all of some keys, or any with a label: give either --lease or --lease-any")
    [(name, value)] = as_pairs([label], "--lease-any").items()
    return LeaseWish(owner, (), Pool(name, value, count), priority)

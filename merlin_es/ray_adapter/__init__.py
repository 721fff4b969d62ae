"""How does Merlin speak with a Ray cluster? Over HTTP alone: nothing in here imports ray."""

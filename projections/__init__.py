"""What do the events mean? The vocabulary of the domain and the pure folds from events to state."""

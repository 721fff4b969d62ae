"""Which facts does Merlin record? One module for each kind of stream."""

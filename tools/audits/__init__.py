"""What must hold of the logs of a state root, whoever wrote them? Standard library only, and none of Merlin's code."""

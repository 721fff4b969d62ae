"""From a capability spec to work that is done: the planner, and the executor of its plan."""

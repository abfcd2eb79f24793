"""A consortium on one machine: every host in a network namespace of its own, real processes, real faults."""

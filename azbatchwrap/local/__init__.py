"""Azure on this machine: the Batch service, Azurite for storage, and what starts and stops them."""

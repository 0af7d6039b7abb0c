"""One file per kind of resource; each says what is wanted, reads what is there, and makes, changes or removes it."""

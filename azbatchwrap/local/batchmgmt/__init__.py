"""`Microsoft.Batch` in the management plane: the account, its applications and pools, and what a location offers."""

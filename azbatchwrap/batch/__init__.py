"""The client side of Azure Batch: pools, jobs, tasks, results."""

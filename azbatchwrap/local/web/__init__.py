"""The page on the Batch service's own address: pools, nodes, jobs, tasks and what they print, as they change."""

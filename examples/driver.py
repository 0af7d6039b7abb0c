"""Ten lines: eight contracts are priced in parallel. Run it in the root folder of the repository."""

from azbatchwrap import AzureBatch, AzureBatchStorage

CONTRACTS = ("C1", "P1", "C2", "P2", "C3", "P3", "C4", "P4")

storage = AzureBatchStorage()
storage.add_input_file_path("examples/pricing/contracts.csv")
storage.add_task_file_path("tasks/*.py")
with AzureBatch(storage) as batch:
    pool_id = batch.create_pool()
    job_id = batch.create_a_job()
    batch.add_tasks_to_job(job_id, (("1_task.py", f"contracts.csv {name}") for name in CONTRACTS))
    for result in batch.get_results(job_id):
        print(result.task_id, result.state, result.value or result.error)
    storage.download_results(job_id, "outputs/driver")
    batch.delete_pool(pool_id)

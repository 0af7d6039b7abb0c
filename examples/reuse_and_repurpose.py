"""One pool for three jobs: made once, used again as it is, then given other files. Run it in the root folder."""

import tempfile
from pathlib import Path

from azbatchwrap import AzureBatch, AzureBatchStorage

SQUARES = """
def do_action(engine, number):
    return int(number) ** 2
"""


def results(batch: AzureBatch, job_id: str) -> list[object]:
    return [result.value if result.succeeded else str(result.error) for result in batch.get_results(job_id)]


storage = AzureBatchStorage()
storage.add_input_file_path("examples/pricing/contracts.csv")
storage.add_task_file_path("tasks/*.py")
with AzureBatch(storage) as first:
    pool_id = first.create_pool()
    job_id = first.create_a_job()
    first.add_tasks_to_job(job_id, ("1_task.py", "contracts.csv C1"))
    print("made", pool_id, results(first, job_id))

# Another process, another day: the pool knows what is deployed on it, so nothing has to be added again.
with AzureBatch(AzureBatchStorage()) as second:
    second.use_existing_pool(pool_id)
    job_id = second.create_a_job()
    second.add_tasks_to_job(job_id, ("1_task.py", "contracts.csv P1"))
    print("used again", pool_id, results(second, job_id))

# Other files for the same nodes, without a minute of waiting for new ones.
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "square.py").write_text(SQUARES)
    storage = AzureBatchStorage()
    storage.add_task_file_path(f"{folder}/square.py")
    with AzureBatch(storage) as third:
        third.repurpose_existing_pool(pool_id)
        job_id = third.create_a_job()
        third.add_tasks_to_job(job_id, [("square.py", number) for number in (3, 4, 12)])
        print("repurposed", pool_id, results(third, job_id))
        third.delete_pool(pool_id)

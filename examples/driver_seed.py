"""Ten lines, in the spelling of the first days. Run it in the root folder of the repository."""

from azbatchwrap import AzureBatch, AzureBatchStorage

storage = AzureBatchStorage()
storage.addInputFilePath("examples/pricing/contracts.csv")
storage.uploadInputFiles()
storage.addTaskFilePath("tasks/1_task.py")
storage.addTaskFilePath("tasks/2_task.py")
storage.uploadTaskFiles()

my_batch = AzureBatch(storage)
app = storage.getApplicationFiles()
input_files = storage.getApplicationInputFiles()
tasks = storage.getBatchTaskFiles()
my_pool = my_batch.create_pool(app_resources=app, input_resources=input_files, task_files=tasks)
job_id = my_batch.create_a_job()
my_batch.add_tasks_to_job(job_id, ("1_task.py", "contracts.csv C1"))
my_batch.wait_for_tasks(job_id)
for result in my_batch.get_results(job_id):
    print(result.task_id, result.state, result.error or result.value)
my_batch.delete_pool(my_pool)

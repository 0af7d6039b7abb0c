# ruff: noqa: ARG004, PLR0917, PTH118 - the public kit asks for these signatures, with annotations that are types
"""The same work for the public kit 0.10.4, run by its own interpreter: one POST per file, on a kept connection.

It finds this file by its name, which it searches the whole path for.
"""

import http.client
import os
import socket
import sys
import time
from argparse import Namespace
from typing import List  # noqa: UP035 - the kit compares annotations

from batchkit import client
from batchkit.batch_config import BatchConfig
from batchkit.batch_request import BatchRequest
from batchkit.endpoint_status import EndpointStatusChecker
from batchkit.run_summarizer import BatchRunSummarizer
from batchkit.work_item import WorkItemRequest, WorkItemResult
from batchkit.work_item_processor import WorkItemProcessor

connections = {}
attempts = os.environ.get("BENCH_ATTEMPTS")
noted = attempts and os.open(attempts, os.O_WRONLY | os.O_APPEND)


def note_attempt(port, item):
    if noted:
        os.write(noted, f"{time.monotonic()} {port} {item}\n".encode())


class Post(WorkItemProcessor):
    def work_item_types(self):
        return [WorkItemRequest]

    def process_impl(self, work_item, endpoint_config, rtf, log_event_queue, cancellation_token, global_workitem_lock):
        place = (endpoint_config["host"], endpoint_config["port"])
        began = time.time()
        note_attempt(place[1], work_item.filepath)
        try:
            passed, reason = post(place, work_item.filepath.encode()) == 200, None
        except (
            OSError,
            http.client.HTTPException,
        ) as error:  # raised from here, it would end the kit's thread for good
            passed, reason = False, repr(error)
        return WorkItemResult(
            work_item, passed, "{}:{}".format(*place), time.time() - began, 1, can_retry=True, failed_reason=reason
        )


def post(place, body):
    line = connections.pop(place, None) or http.client.HTTPConnection(*place, timeout=60)
    line.request("POST", "/", body)
    answer = line.getresponse()
    answer.read()
    connections[place] = line
    return answer.status


class Listens(EndpointStatusChecker):
    """What ours does by default, and what the public Speech Batch Kit begins with."""

    def check_endpoint(self, host, port, is_secure, is_cloud_service):
        try:
            socket.create_connection((host, port), timeout=10).close()
        except OSError:
            return False
        return True


class Counts(BatchRunSummarizer):
    def run_summary(
        self, snap_work_results, snap_file_queue_size, snap_num_running, start_time, num_endpoints, log_conclusion_msg
    ):
        files = [result.to_dict() for result in snap_work_results.values()]
        return {"overall_summary": {"total": len(files)}, "processed_files": files}


class Config(BatchConfig):
    @staticmethod
    def from_args(args: Namespace):
        return Config()


class Files(BatchRequest):
    @staticmethod
    def from_json(json: dict):
        return Files(json["files"])

    @staticmethod
    def from_config(files: List[str], config: Config):  # noqa: UP006 - as above
        return Files(files)

    def make_work_items(self, output_dir, cache_search_dirs, log_dir):
        return [WorkItemRequest(name) for name in self.files]

    @staticmethod
    def get_work_item_processor():
        return Post()

    @staticmethod
    def get_endpoint_status_checker(leq):
        return Listens(leq)

    def get_batch_run_summarizer(self):
        return Counts()

    @staticmethod
    def is_valid_input_file(file):
        return True


if __name__ == "__main__":
    from batch_request import Config as Found  # under the name that the kit finds it by

    config, inputs, outputs, mode = sys.argv[1:]
    # It refuses to start below half a million descriptors, which it does not need.
    client.assert_sufficient_openfd_rlimit = lambda: None
    client.run(
        Namespace(
            log_folder=None, console_log_level="INFO", file_log_level="INFO", run_mode=mode, input_folder=inputs,
            input_list=None, output_folder=outputs, poll=False, apiserver_port=0, debug_loop_interval=0,
            scratch_folder=os.path.join(outputs, "scratch"), configuration_file=config,
            strict_configuration_validation=False, store_combined_json=False,
        ),
        Found,
    )  # fmt: skip

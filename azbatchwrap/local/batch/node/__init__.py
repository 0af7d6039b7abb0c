"""What happens on one simulated node: folders, processes, environment and files. Knows nothing of the service."""

from __future__ import annotations

from azbatchwrap.local.batch.node.command_line import split_command_line
from azbatchwrap.local.batch.node.containers import Containers
from azbatchwrap.local.batch.node.environment import TaskIdentity, network_settings, task_environment
from azbatchwrap.local.batch.node.place import NodeFolders, NodePlace, make_node_python
from azbatchwrap.local.batch.node.process_host import HostLost, ProcessHandle, ProcessHost, kill_leftovers, kill_orphans
from azbatchwrap.local.batch.node.records import USER_ERROR, Failure, Launch, Outcome, Stage, TaskFailure, Usage
from azbatchwrap.local.batch.node.run import run
from azbatchwrap.local.batch.node.transfers import Transfers

__all__ = [
    "USER_ERROR",
    "Containers",
    "Failure",
    "HostLost",
    "Launch",
    "NodeFolders",
    "NodePlace",
    "Outcome",
    "ProcessHandle",
    "ProcessHost",
    "Stage",
    "TaskFailure",
    "TaskIdentity",
    "Transfers",
    "Usage",
    "kill_leftovers",
    "kill_orphans",
    "make_node_python",
    "network_settings",
    "run",
    "split_command_line",
    "task_environment",
]

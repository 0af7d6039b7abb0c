"""The properties of each type that ``$select`` may name, of all api-versions together."""

from __future__ import annotations

from typing import Final


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_LIFE: Final = "id displayName url eTag lastModified creationTime state stateTransitionTime metadata stats"
_PREVIOUS: Final = "previousState previousStateTransitionTime"

POOL: Final = _names(
    f"""{_LIFE} allocationState allocationStateTransitionTime vmSize cloudServiceConfiguration
    virtualMachineConfiguration resizeTimeout resizeErrors currentDedicatedNodes currentLowPriorityNodes
    targetDedicatedNodes targetLowPriorityNodes enableAutoScale autoScaleFormula autoScaleEvaluationInterval
    autoScaleRun enableInterNodeCommunication networkConfiguration startTask certificateReferences
    applicationPackageReferences applicationLicenses taskSlotsPerNode maxTasksPerNode taskSchedulingPolicy
    userAccounts mountConfiguration identity targetNodeCommunicationMode currentNodeCommunicationMode upgradePolicy
    resourceTags"""
)
JOB: Final = _names(
    f"""{_LIFE} {_PREVIOUS} usesTaskDependencies priority allowTaskPreemption maxParallelTasks constraints
    jobManagerTask jobPreparationTask jobReleaseTask commonEnvironmentSettings poolInfo onAllTasksComplete
    onTaskFailure networkConfiguration executionInfo"""
)
JOB_SCHEDULE: Final = _names(f"{_LIFE} {_PREVIOUS} schedule jobSpecification executionInfo")
TASK: Final = _names(
    f"""{_LIFE} {_PREVIOUS} exitConditions commandLine containerSettings resourceFiles outputFiles
    environmentSettings affinityInfo constraints requiredSlots userIdentity executionInfo nodeInfo
    multiInstanceSettings dependsOn applicationPackageReferences authenticationTokenSettings"""
) - {"metadata"}
SUBTASK: Final = _names(
    f"""{_PREVIOUS} id nodeInfo startTime endTime exitCode containerInfo failureInfo state stateTransitionTime
    result"""
)
NODE: Final = _names(
    """id url state schedulingState stateTransitionTime lastBootTime allocationTime ipAddress ipv6Address affinityId
    vmSize totalTasksRun runningTasksCount runningTaskSlotsCount totalTasksSucceeded recentTasks startTask
    startTaskInfo certificateReferences errors isDedicated endpointConfiguration nodeAgentInfo virtualMachineInfo"""
)
NODE_EXTENSION: Final = _names("provisioningState vmExtension instanceView")
PREPARATION_STATUS: Final = _names("poolId nodeId nodeUrl jobPreparationTaskExecutionInfo jobReleaseTaskExecutionInfo")

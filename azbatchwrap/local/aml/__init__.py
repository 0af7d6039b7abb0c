"""Azure Machine Learning on this machine: workspaces and what lies in them, batch endpoints, and jobs that really run."""

from azbatchwrap.local.aml.provider import register

__all__ = ["register"]

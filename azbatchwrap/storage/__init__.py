"""Files for nodes and results from them, on Azure Blob Storage or its emulator."""

from azbatchwrap.storage.facade import AzureBatchStorage
from azbatchwrap.storage.records import BlobEntry, Content, Deployment, FileReference, Role, StoredDeployment

__all__ = ["AzureBatchStorage", "BlobEntry", "Content", "Deployment", "FileReference", "Role", "StoredDeployment"]

"""Names by which clients know this cloud, its directory, its user and its first subscription."""

from __future__ import annotations

CLOUD = "AzureLocal"
#: The directory's name. Clients ask ``login.microsoftonline.com`` about every tenant but this one, by convention.
TENANT = "adfs"
#: Ids in the claims of tokens: some clients read them.
TENANT_ID = "a0b1c2d3-0000-4000-8000-00000000adf5"
CLIENT_ID = "a0b1c2d3-0000-4000-8000-000000c11e47"
#: The subscription that is there from the start. Any other id may be used as well.
SUBSCRIPTION = "00000000-0000-4000-8000-000000a2ba7c"

"""The bodies of requests as tables of fields, one module for each thing that they are about."""

"""Azure Resource Manager on this machine: the management plane that other namespaces hang their resources into."""

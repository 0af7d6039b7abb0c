"""batchcreate: an Azure Machine Learning batch-scoring service, from the resource group to the endpoint, found or made."""

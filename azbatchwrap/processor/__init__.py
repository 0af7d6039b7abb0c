"""Inference requests from queues, every one answered: dispatched with retries until their deadlines."""

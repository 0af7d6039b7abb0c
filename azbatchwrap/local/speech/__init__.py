"""A stand-in for Azure's speech container: the real Speech SDK, REST clients and the batch client can talk to it."""

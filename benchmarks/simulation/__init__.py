"""A day of mixed work on a simulated device, to test the controller that sizes batches from memory."""

"""Load tests with locust: a fleet under uploads that arrive whatever it answers."""

"""HTTP beneath the routes: keys, body limits, problems, metrics, the schema."""

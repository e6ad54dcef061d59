"""Plain data that the API and the workers share: pydantic and the standard library, nothing else."""

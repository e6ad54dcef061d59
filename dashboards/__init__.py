"""The Grafana dashboards as code: `python -m dashboards` writes the chart's files."""

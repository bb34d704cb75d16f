"""What Prometheus and Grafana need to watch memoserve."""

"""Exporters for metrics: Prometheus and OpenTelemetry. Each needs the extra of its name."""
